//! Names that cells of a real network have, next to the certificates of their start-up kits.

use std::path::Path;

use cellnet_core::{cell::Cell, identity::CommonNamePolicy};
use cellnet_pipe::Mode;
use serde_json::json;

use crate::{
    behaviour::{behave, they_are_told},
    kits::{ADMIN, kit, participant, tls},
    leg::{Leg, STCP},
    payload::payload,
    pipes::converse_all,
    process::Process,
    side::{Attach, Case, Known},
    support::{any_port, ask, builder, connected, linked, no_foreign_origins, url_of},
    trust::{dial_error, refusals},
};

/// A channel that does not stream, and one that does.
const PLAIN: &str = "task";
const STREAM: &str = "echo";

/// As the reference names its administrators' cells.
const CONSOLE: &str = "_admin_7f0e3f0a-5f0b-4b5e-9d0c-2f6a1c8e4d21";

/// The site's agent is ours, its job is the reference's; so are relay, administrator and one side of the pipe. The
/// other site has a link to the relay, to which it belongs, and one to the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_ours_admits_the_names_of_a_real_network() {
    let policy = CommonNamePolicy::new().with_admins([ADMIN]);
    let server = STCP.builder("server").identity(policy).listen(STCP.any_port());
    let server = server.start().await.expect("a port of loopback");
    let url = url_of(&server);
    let agent = connected(STCP.builder("site-1").listen(any_port()).dial(STCP.url(&url))).await;
    let (_relay, relay) = STCP.relay(&["--root", &url]).await;
    linked(&server, "relay-1").await;
    let parent = url_of(&agent);
    let (_job, _site, _console) = tokio::join!(
        serving("site-1.job-7", ["--root", &url, "--parent", &parent]),
        serving("relay-1.site-2", ["--root", &url, "--parent", &relay]),
        serving(CONSOLE, ["--root", &url]),
    );
    for name in ["site-1.job-7", "relay-1.site-2", CONSOLE] {
        linked(&server, name).await;
        echoes(&server, name).await;
    }
    echoes(&agent, "relay-1.site-2").await;
    for (asked, target) in
        [("site-1.job-7", "relay-1.site-2"), ("relay-1.site-2", "site-1.job-7"), (CONSOLE, "site-1.job-7")]
    {
        for channel in [PLAIN, STREAM] {
            let order = json!({"target": target, "channel": channel, "topic": "describe", "payload": "hi"});
            let account = they_are_told(&server, asked, channel, order).await;
            assert_eq!(account["return_code"], "ok", "{asked} asks {target} on '{channel}': {account}");
        }
    }
    let pipe = Case { ours: Mode::Active, we_ask: true, handled: true };
    converse_all([(Attach::by(STCP, &url), pipe)]).await;
    no_foreign_origins([&server, &agent]);
    assert_eq!(server.counters().failed_handshakes.get(), 0);
}

/// Roles are changed: the job, the relay and the administrator are ours, and the site's agent listens with its kit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cells_of_ours_have_the_names_of_a_real_network_with_a_root_of_the_reference() {
    let (_root, url) = STCP.root(&[]).await;
    let agent = STCP.relaying("site-1", &url).await;
    let relay = STCP.relaying("relay-1", &url).await;
    let job = STCP.builder("site-1.job-7").dial(STCP.url(&url)).dial(STCP.url(&url_of(&agent)));
    let job = connected(job).await;
    let console = STCP.dialling(CONSOLE, &url).await;
    let _site = serving("relay-1.site-2", ["--parent", &url_of(&relay)]).await;
    for cell in [&job, &console, &relay, &agent] {
        echoes(cell, "server").await;
        echoes(cell, "relay-1.site-2").await;
    }
    for channel in [PLAIN, STREAM] {
        behave(&job, channel);
        let order =
            json!({"target": "site-1.job-7", "channel": channel, "topic": "describe", "payload": "hi"});
        let account = they_are_told(&console, "relay-1.site-2", channel, order).await;
        assert_eq!(account["return_code"], "ok", "{account}");
    }
    let known = Known { root: url, cp: url_of(&agent), relay: Some(url_of(&relay)) };
    converse_all([
        (Attach::known_by(STCP, &known, ""), Case { ours: Mode::Active, we_ask: true, handled: true }),
        (
            Attach::known_by(STCP, &known, &url_of(&relay)),
            Case { ours: Mode::Passive, we_ask: false, handled: true },
        ),
    ])
    .await;
    no_foreign_origins([&agent, &relay, &job, &console]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_others_are_refused_to_the_reference() {
    let server = STCP.listening("server").await;
    let url = url_of(&server);
    let claims = [("site-2", "site-1"), (ADMIN, "site-1"), (ADMIN, CONSOLE), ("site-1", "site-10")];
    let mut impostors = Vec::new();
    for (number, (owner, name)) in claims.into_iter().enumerate() {
        impostors.push(claiming(STCP, &kit(owner), name, &["--root", &url]));
        refusals(&server, number as u64 + 1).await;
    }
    let mut honest = claiming(STCP, &kit("site-2"), "site-2", &["--root", &url, "--serve", PLAIN]);
    honest.ready().await;
    linked(&server, "site-2").await;
    assert_eq!(server.neighbours(), ["site-2".parse().expect("a name")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_of_the_reference_with_the_name_of_another_is_not_believed() {
    let args = ["--fqcn", "site-9", "--root", "tcp://127.0.0.1:1", "--no-wait", "--scheme", "stcp"];
    let impostor = STCP.python_with("relay_cell", &kit("relay-1"), &args);
    let (_impostor, url) = crate::leg::ready(impostor).await;
    let site =
        builder("site-9.site-1").tls(tls("site-1")).dial(STCP.url(&url)).start().await.expect("a cell");
    let why = dial_error(&site).await;
    assert!(why.contains("'relay-1' does not allow the name 'site-9'"), "{why}");
}

/// A cell of the reference that answers, with the kit that its name asks for.
async fn serving<const N: usize>(name: &str, args: [&str; N]) -> Process {
    let args = [&args[..], &["--serve", PLAIN, "--serve", STREAM]].concat();
    let mut cell = claiming(STCP, &kit(participant(name)), name, &args);
    cell.ready().await;
    cell
}

fn claiming(leg: Leg, kit: &Path, name: &str, args: &[&str]) -> Process {
    leg.python_with("client_cell", kit, &[&["--fqcn", name], args].concat())
}

async fn echoes(cell: &Cell, peer: &str) {
    for channel in [PLAIN, STREAM] {
        let sent = payload("bytes", 100_000, 1);
        let echo = ask(cell, peer, channel, "echo", sent.clone()).await;
        assert!(echo.payload == sent, "{peer} on '{channel}' to {}", cell.name());
    }
}
