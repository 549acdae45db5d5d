//! Sending: an offer that is kept alive until the receiver has everything, or says why not.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    io::AsyncRead,
    time::{Instant, sleep},
};

use super::{
    Phase, Progress, Reason, SendOptions, TransferError,
    asker::backoff,
    handle::Runner,
    live::Live,
    manifest::{Manifest, Walk},
    offered::{Content, Offered},
    receipt::{Heard, Outcome},
    shared::Shared,
    sink::blocking,
    wire::{self, Accepted, Cancel, PENDING, REASON},
};
use crate::{
    fqcn::Fqcn,
    message::{Message, ReturnCode},
};

/// Sends files to several cells; each has a runner.
pub(crate) async fn send_files(
    shared: Arc<Shared>,
    paths: Vec<PathBuf>,
    remote: String,
    options: SendOptions,
    targets: Vec<(Fqcn, Runner)>,
) {
    let (dir, name) = split_remote(&remote, paths.len());
    let walk = Walk {
        max_entries: shared.config.max_entries,
        skip_special: options.skip_special,
        skip_partial: options.skip_special,
    };
    let rename = name.map(str::to_owned);
    let looked = blocking(move || Manifest::of_paths(&paths, rename.as_deref(), walk));
    let looked = tokio::select! {
        looked = looked => looked,
        () = shared.stop.cancelled() => Err(ended()),
    };
    let offered = looked.and_then(|manifest| {
        let offered = Arc::new(shared.offered(Content::Files(Arc::new(manifest))));
        // Known before anybody can ask.
        let heard = targets.iter().map(|(target, _)| offered.admit(target)).collect::<Vec<_>>();
        shared.offers.add(offered.clone())?;
        Ok((offered, heard))
    });
    match offered {
        Ok((offered, heard)) => {
            let sendings = targets.into_iter().zip(heard).map(|((target, runner), heard)| {
                Sending {
                    shared: &shared,
                    offered: &offered,
                    target,
                    heard,
                    dir,
                    overwrite: options.overwrite,
                    runner,
                }
                .run()
            });
            futures_util::future::join_all(sendings).await;
            shared.offers.remove(&offered.token);
            shared.blocks.forget(offered.token);
        }
        Err(error) => targets.into_iter().for_each(|(_, runner)| runner.finish(Err(error.clone()))),
    }
}

/// Sends what a reader gives to one cell.
pub(crate) async fn send_reader(
    shared: Arc<Shared>,
    reader: impl AsyncRead + Send + Unpin + 'static,
    remote: String,
    options: SendOptions,
    target: Fqcn,
    runner: Runner,
) {
    let (dir, Some(name)) = split_remote(&remote, 1) else {
        let text = "what is read from a stream needs a name at the receiver";
        return runner.finish(Err(TransferError::here(Reason::InvalidPath, text)));
    };
    let block = shared.config.block();
    let token = wire::Token::random();
    let live = Arc::new(Live::new(name, token, block, shared.config.window));
    let offered = Arc::new(shared.offered(Content::Live(live.clone())));
    let heard = offered.admit(&target);
    if let Err(error) = shared.offers.add(offered.clone()) {
        return runner.finish(Err(error));
    }
    let reading = tokio::spawn(live.read(reader));
    let sending = Sending {
        shared: &shared,
        offered: &offered,
        target,
        heard,
        dir,
        overwrite: options.overwrite,
        runner,
    };
    sending.run().await;
    reading.abort();
    shared.offers.remove(&offered.token);
}

/// The directory that a remote path means, and the name of a single file in it if it says one.
fn split_remote(remote: &str, sources: usize) -> (&str, Option<&str>) {
    let name = remote.rsplit_once('/').map_or(remote, |(_, name)| name);
    if sources != 1 || matches!(name, "" | "." | "..") {
        return (remote, None);
    }
    (&remote[..remote.len() - name.len()], Some(name))
}

/// One receiver of an offer.
struct Sending<'a> {
    shared: &'a Shared,
    offered: &'a Arc<Offered>,
    target: Fqcn,
    heard: Heard,
    dir: &'a str,
    overwrite: bool,
    runner: Runner,
}

/// What the receiver says to the offer.
enum Answer {
    Accepted(Accepted),
    /// Try again as long as there is hope.
    Later,
    /// Try again for a while: what keeps it from being accepted should end soon.
    Soon(TransferError),
    Lost,
    Refused(TransferError),
}

impl Sending<'_> {
    async fn run(self) {
        let stop = self.shared.stop.clone();
        let outcome = tokio::select! {
            biased;
            outcome = heard(self.heard.clone()) => outcome,
            () = stop.cancelled() => Err(self.cancel(Reason::ShuttingDown, "the sender stops").await),
            () = self.runner.cancelled.cancelled() => Err(self.cancel(Reason::Cancelled, "given up by the sender").await),
            error = self.keep_offering() => match heard_already(&self.heard) {
                Some(outcome) => outcome,
                None => {
                    self.cancel(error.reason(), error.text()).await;
                    Err(error)
                }
            },
        };
        self.offered.conclude(&self.target, outcome.clone());
        if let Ok(receipt) = &outcome {
            self.runner.progress.send_modify(|progress| {
                (progress.bytes, progress.total, progress.waiting) =
                    (receipt.bytes, Some(receipt.bytes), false);
                (progress.files, progress.resumed_from) = (receipt.files, receipt.resumed);
            });
        }
        self.runner.finish(outcome);
    }

    /// Offers it again and again, to a receiver that may have begun again, and to hear how far it is. Ends when there is no
    /// more hope.
    async fn keep_offering(&self) -> TransferError {
        let offer = self.offered.offer(self.dir, self.overwrite);
        let (payload, patience) = (wire::encode(&offer), self.shared.config.patience);
        self.runner.progress.send_modify(|progress| {
            (progress.total, progress.files) = (offer.bytes, offer.files.into());
        });
        let (mut progress, mut failures, mut hopeless, mut known) = (Instant::now(), 0, None, None);
        loop {
            let answer = self.offer(payload.clone()).await;
            let accepted = matches!(answer, Answer::Accepted(_));
            match answer {
                Answer::Accepted(accepted) => {
                    (failures, hopeless) = (0, None);
                    if known.replace(accepted.activity) != Some(accepted.activity) {
                        progress = Instant::now();
                    }
                    self.show(&accepted);
                    if let Some(receipt) = accepted.receipt {
                        // It is over there, and only its word did not come through. What comes of that is heard as if it had.
                        let _ = self.offered.hear(&self.target, receipt, true).await;
                    }
                }
                Answer::Refused(error) => return error,
                Answer::Soon(error) => {
                    let since: Instant = *hopeless.get_or_insert_with(Instant::now);
                    if since.elapsed() >= SOON {
                        return error;
                    }
                    self.lost(false);
                }
                Answer::Later => self.lost(false),
                Answer::Lost => self.lost(true),
            }
            if progress.elapsed() >= patience {
                return TransferError::here(
                    Reason::Stalled,
                    format!("'{}' made no progress for {patience:?}", self.target),
                );
            }
            if accepted {
                sleep(POLL).await;
                continue;
            }
            // A receiver that asks can be reached again.
            tokio::select! {
                () = sleep(backoff(failures)) => failures += 1,
                () = self.offered.asked_by(&self.target) => {
                    failures = 0;
                    sleep(backoff(failures)).await;
                }
            }
        }
    }

    async fn offer(&self, payload: bytes::Bytes) -> Answer {
        let message = Message::new(payload);
        let asked =
            self.shared.cell.request(&self.target, wire::CHANNEL, wire::OFFER, message).timeout(ANSWER).await;
        let reply = match asked {
            Ok(reply) => reply,
            Err(crate::cell::RequestError::ShuttingDown) => return Answer::Refused(ended()),
            Err(_) => return Answer::Lost,
        };
        if reply.is_ok() {
            return match wire::decode(reply.payload.as_bytes()) {
                Ok(accepted) => Answer::Accepted(accepted),
                Err(error) => Answer::Refused(error),
            };
        }
        if reply.headers.text(REASON).is_some_and(|word| *word == *PENDING) {
            return Answer::Later;
        }
        match wire::refused(&self.target, &reply) {
            Some(error) if error.reason() == Reason::ShuttingDown => Answer::Lost,
            Some(error) if error.reason() == Reason::Busy => Answer::Soon(error),
            Some(error) => Answer::Refused(error),
            // Nobody takes files there, or not yet.
            None if reply.code() == Some(ReturnCode::PROCESS_EXCEPTION) => {
                let text = reply.error().unwrap_or("takes no files").to_owned();
                Answer::Soon(TransferError::peer(&self.target, Reason::NoInbox, text))
            }
            None if reply.code() == Some(ReturnCode::SERVICE_UNAVAILABLE) => Answer::Later,
            None => Answer::Lost,
        }
    }

    fn show(&self, accepted: &Accepted) {
        let progress = Progress {
            phase: match accepted.receipt {
                Some(_) => Phase::Settling,
                None => Phase::Moving,
            },
            bytes: accepted.safe,
            resumed_from: accepted.resumed,
            waiting: false,
            ..*self.runner.progress.borrow()
        };
        self.runner.progress.send_if_modified(|known| std::mem::replace(known, progress) != progress);
    }

    fn lost(&self, lost: bool) {
        self.runner
            .progress
            .send_if_modified(|progress| std::mem::replace(&mut progress.waiting, lost) != lost);
    }

    /// Tells the receiver that it is over, if it can be reached.
    async fn cancel(&self, reason: Reason, text: &str) -> TransferError {
        let cancel = Cancel { token: self.offered.token, reason: reason.as_str().into(), text: text.into() };
        let message = Message::new(wire::encode(&cancel));
        let told = self.shared.cell.request(&self.target, wire::CHANNEL, wire::CANCEL, message);
        // Who cannot be reached finds out when it asks.
        let _ = told.optional().timeout(TELL).await;
        TransferError::here(reason, text.to_owned())
    }
}

/// What the receiver, or this side's disk, says about the end.
async fn heard(mut heard: Heard) -> Outcome {
    match heard.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
        Ok(Some(outcome)) => outcome,
        _ => Err(ended()),
    }
}

fn heard_already(heard: &Heard) -> Option<Outcome> {
    heard.borrow().clone()
}

pub(crate) fn ended() -> TransferError {
    TransferError::here(Reason::ShuttingDown, "the transfers of this cell have ended")
}

/// How often a receiver is asked how far it is.
const POLL: Duration = Duration::from_millis(500);
/// How long it may take to say that.
const ANSWER: Duration = Duration::from_secs(10);
/// How long something is tried again that should work soon.
const SOON: Duration = Duration::from_secs(15);
/// How long a farewell may take.
const TELL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::split_remote;

    #[test]
    fn remote_paths_are_directories_or_names() {
        for (remote, sources, expected) in [
            ("", 1, ("", None)),
            ("a", 1, ("", Some("a"))),
            ("a/", 1, ("a/", None)),
            ("a/b", 1, ("a/", Some("b"))),
            ("a/b", 2, ("a/b", None)),
            ("/etc/x", 1, ("/etc/", Some("x"))),
            ("../x", 1, ("../", Some("x"))),
            ("a/..", 1, ("a/..", None)),
        ] {
            assert_eq!(split_remote(remote, sources), expected, "{remote}");
        }
    }
}
