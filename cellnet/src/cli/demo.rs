//! `cellnet demo`: a whole small network in one process, over real sockets.
//!
//! ```text
//! server                        listens on every transport
//! └── relay-1                   by QUIC
//!     ├── relay-1.site-1        by WebSocket, and the two sides of its pipe
//!     └── relay-1.site-2        by TCP, and the two sides of its pipe
//! ```
//! All of it is under mutual TLS, by an authority that lives as long as the demo. What is not compiled in is replaced by
//! what is.
//! Every step has a deadline and waits for events, never for time to pass.

mod account;
mod legs;
mod network;
mod pki;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cellnet::{Fqcn, Message, Payload, RequestError};
use serde::Serialize;

use self::{
    account::{Account, bytes, digest, millis},
    legs::Leg,
    network::{ASK, BLOB, Network, RELAY, hops},
};
use super::{
    data, show,
    status::{Failure, Status},
};

/// Show a whole small network in one process: a server, a relay, two sites and their pipes
///
/// The server listens on every transport under mutual TLS; the relay reaches it by QUIC, one site the relay by WebSocket
/// and one by TCP. Sends a payload through it both ways, kills the relay and lets the network recover. Ends with status 0 only if
/// all of it held.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Send the content of this file instead of 4 MiB of noise
    #[arg(long, env = "CELLNET_FILE")]
    file: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  cellnet demo
  cellnet demo --file model.bin --json";

pub(crate) async fn run(args: Args, json: bool) -> Result<(), Failure> {
    let payload = match &args.file {
        Some(path) => data::read_file(path)?,
        None => data::noise(DEFAULT_PAYLOAD, 7),
    };
    let mut account = Account::new(json);
    let mut result = Summary { bytes: payload.len(), sha256: digest(&payload), ..Summary::default() };
    let ended = scenario(&mut account, &payload, &mut result).await;
    result.error = ended.as_ref().err().map(ToString::to_string);
    if json {
        show::print_json(&result)?;
    }
    ended
}

/// Enough chunks to fill several windows' worth of frames, and done in an instant.
const DEFAULT_PAYLOAD: usize = 4 << 20;

/// The one object of `--json`. Times in milliseconds.
#[derive(Debug, Default, Serialize)]
struct Summary {
    bytes: usize,
    sha256: String,
    /// By which transport each cell reached the one above it.
    transports: BTreeMap<String, String>,
    transfers: usize,
    recovery_ms: Option<f64>,
    error: Option<String>,
}

async fn scenario(account: &mut Account, payload: &Bytes, result: &mut Summary) -> Result<(), Failure> {
    account.title("A network of cells on 127.0.0.1")?;
    let mut network = step("start the cells", Network::start()).await?;
    account.lines(&network.tree())?;
    for missing in [legs::RELAY, legs::SITE_1, legs::SITE_2].into_iter().filter_map(Leg::substitute) {
        account.line(&missing)?;
    }
    result.transports = network.transports().into_iter().collect();

    account.title("The server asks both sites at once")?;
    broadcast(account, &network).await?;

    account.title(&format!("{} travel both ways through the relay", bytes(payload.len())))?;
    account.line(&format!("sha256    {}", result.sha256))?;
    result.transfers += blobs(account, &network, payload).await?;
    result.transfers += pipes(account, &network, payload).await?;

    account.title("The relay dies and comes back")?;
    let recovery = recover(account, &mut network, payload).await?;
    result.recovery_ms = Some(recovery.as_secs_f64() * 1e3);
    result.transfers += network.sites.len() * 2;

    account.title("After the recovery")?;
    broadcast(account, &network).await?;
    result.transfers += pipes(account, &network, payload).await?;
    account.line(&network.check_delivered()?)?;

    step("stop the cells", async {
        network.stop().await;
        Ok(())
    })
    .await?;
    account.title(&format!("All of it held: {} transfers, every digest as sent.", result.transfers))?;
    Ok(())
}

/// The server asks all sites; each says by which way it was asked.
async fn broadcast(account: &mut Account, network: &Network) -> Result<(), Failure> {
    let targets = network.site_names();
    let began = Instant::now();
    let asked = network.server.broadcast(&targets, ASK, "where", Message::new("where are you?"), STEP);
    let replies = step("ask both sites", async { Ok(asked.await) }).await?;
    let took = began.elapsed();
    let answered: Vec<_> = replies.iter().map(|(target, _)| target.clone()).collect();
    if answered != targets {
        let text = format!("{targets:?} were asked, and {answered:?} are in the answer");
        return Err(Failure::new(Status::Integrity, text));
    }
    for (target, reply) in replies {
        let reply = reply.map_err(Failure::from)?;
        let there = String::from_utf8_lossy(reply.payload.as_bytes()).into_owned();
        let back = hops(&reply.headers);
        expect_hops(&target, &there, &["server", RELAY, target.as_str()])?;
        expect_hops(&target, &back, &[target.as_str(), RELAY, "server"])?;
        let way = network.way_to(&target);
        let took = millis(took);
        account
            .line(&format!("{target}    asked by {there}    over {way}    answered by {back}    {took}"))?;
    }
    Ok(())
}

/// A route must be these cells.
fn expect_hops(target: &Fqcn, route: &str, expected: &[&str]) -> Result<(), Failure> {
    if route.split(" → ").eq(expected.iter().copied()) {
        return Ok(());
    }
    let text = format!("a message of '{target}' came by {route}, not by {}", expected.join(" → "));
    Err(Failure::new(Status::Integrity, text))
}

/// The server sends the payload to each site and gets it back.
async fn blobs(account: &mut Account, network: &Network, payload: &Bytes) -> Result<usize, Failure> {
    for target in network.site_names() {
        let began = Instant::now();
        let asked =
            network.server.request(&target, BLOB, "echo", Message::new(payload.clone())).timeout(STEP);
        let reply = step("send the payload to a site", async { Ok(asked.await?) }).await?;
        if !reply.is_ok() {
            let error = reply.error().unwrap_or_default();
            return Err(Failure::new(Status::Failed, format!("'{target}' refused the payload: {error}")));
        }
        told(account, &format!("server ⇄ {target}"), payload, &reply.payload, began.elapsed())?;
    }
    Ok(network.sites.len() * 2)
}

/// The passive side of each pipe sends the payload to the active side and gets it back.
async fn pipes(account: &mut Account, network: &Network, payload: &Bytes) -> Result<usize, Failure> {
    for site in &network.sites {
        let done = step("send the payload through a pipe", site.pipe.exchange(payload)).await?;
        told(account, &site.pipe.to_string(), payload, &done.back, done.took)?;
    }
    Ok(network.sites.len() * 2)
}

/// Compares what came back with what was sent, and says so.
fn told(
    account: &mut Account,
    between: &str,
    sent: &Bytes,
    back: &Payload,
    took: Duration,
) -> Result<(), Failure> {
    let (ours, theirs) = (digest(sent), digest(back.as_bytes()));
    if ours != theirs || sent != back.as_bytes() {
        let text = format!("{between}: what came back has the digest {theirs}, not {ours}");
        return Err(Failure::new(Status::Integrity, text));
    }
    let rate = 2.0 * sent.len() as f64 / took.as_secs_f64().max(1e-9) / 1e6;
    account.line(&format!(
        "{between}    there and back in {}    {rate:.0} MB/s    {} ✓",
        millis(took),
        &theirs[..12]
    ))
}

/// Ends the relay and starts it again on the same port while messages are on their way; measures the way back.
async fn recover(account: &mut Account, network: &mut Network, payload: &Bytes) -> Result<Duration, Failure> {
    let url = network.relay_urls();
    // These exchanges may lose their way, or begin without one, and nobody helps them.
    let mut waiting = vec![network.sites[0].pipe.begin_exchange(payload)];
    step("kill the relay", network.kill_relay()).await?;
    account.line(&format!(
        "{RELAY} dies right after the pipe of site-1 began to send; every neighbour noticed"
    ))?;
    let target = network.site_names().remove(0);
    let lost = network.server.request(&target, ASK, "where", Message::empty()).timeout(STEP);
    let lost = step("ask a site without a way", async { Ok(lost.await) }).await?;
    let error = match lost {
        Err(error @ RequestError::Unreachable(_)) => error,
        Err(error) => return Err(error.into()),
        Ok(_) => {
            let text = format!("'{target}' answered although its relay is gone");
            return Err(Failure::new(Status::Failed, text));
        }
    };
    account.line(&format!("server asks {target}: {error}"))?;
    waiting.extend(network.sites[1..].iter().map(|site| site.pipe.begin_exchange(payload)));
    account.line("the pipe of site-2 begins to send into the gap")?;
    let began = Instant::now();
    step("start the relay again", network.restart_relay()).await?;
    let back = millis(began.elapsed());
    account.line(&format!("{RELAY} listens on {url} again; all neighbours are back after {back}"))?;
    for (exchange, site) in waiting.into_iter().zip(&network.sites) {
        let exchange = async { exchange.await.expect("an exchange does not panic") };
        let done = step("recover a pipe", exchange).await?;
        told(account, &site.pipe.to_string(), payload, &done.back, done.took)?;
        account.line(&match done.tries {
            1 => "    the other side took it at the first try".to_owned(),
            tries => format!("    the first try was lost; the other side took it at try {tries}"),
        })?;
    }
    Ok(began.elapsed())
}

/// Runs one step; nothing waits for ever.
async fn step<T>(what: &str, doing: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(STEP, doing).await {
        Ok(done) => done,
        Err(_) => Err(Failure::new(Status::Timeout, format!("could not {what} within {STEP:?}"))),
    }
}

/// Far more than any step takes on a slow machine.
const STEP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detour_is_noticed() {
        let target: Fqcn = "relay-1.site-1".parse().unwrap();
        assert!(expect_hops(&target, "server → relay-1", &["server", "relay-1"]).is_ok());
        let failure = expect_hops(&target, "server → x", &["server", "relay-1"]).unwrap_err();
        assert_eq!(failure.status, Status::Integrity);
        assert!(failure.to_string().contains("server → x"), "{failure}");
    }

    #[test]
    fn damage_is_noticed() {
        let mut account = Account::new(true);
        let sent = Bytes::from_static(b"abc");
        let took = Duration::from_secs(1);
        assert!(told(&mut account, "a ⇄ b", &sent, &Payload::Bytes(sent.clone()), took).is_ok());
        let failure = told(&mut account, "a ⇄ b", &sent, &Payload::Bytes("abd".into()), took).unwrap_err();
        assert_eq!(failure.status, Status::Integrity);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_hangs_ends_with_its_name() {
        let failure = step::<()>("wait for ever", std::future::pending()).await.unwrap_err();
        assert_eq!(failure.status, Status::Timeout);
        assert!(failure.to_string().contains("wait for ever"));
    }
}
