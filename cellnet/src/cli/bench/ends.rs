//! The serving ends of pipes.

use std::{sync::Arc, time::Duration};

use cellnet::{
    CellUrl, Fqcn, HandlerError,
    pipe::{CellPipe, Mode, Pipe, Place},
};
use tokio::task::JoinHandle;

use super::{count::Count, talk::Attach};
use crate::cli::{security::Trust, status::chain};

/// Where ends of pipes can attach: to this cell itself, and to those above it.
///
/// Nobody else can name a URL that is dialled from here.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) me: Fqcn,
    pub(super) listening: Vec<CellUrl>,
    pub(super) root: Vec<CellUrl>,
    pub(super) parent: Vec<CellUrl>,
}

impl Places {
    /// The place with that name, by a transport that is asked for if there are several.
    pub(super) fn find(&self, name: &str, scheme: &str) -> Option<Place> {
        let of = |fqcn: &Fqcn, urls: Vec<CellUrl>| {
            let mut urls = urls.into_iter();
            let first = Place::new(fqcn.clone(), urls.next()?);
            Some(urls.fold(first, Place::or))
        };
        let above = self.me.parent().filter(|parent| parent.as_str() == name);
        if name == self.me.as_str() {
            let wanted = self.listening.iter().find(|url| url.scheme().as_str() == scheme);
            of(&self.me, wanted.or(self.listening.first()).map(loopback).into_iter().collect())
        } else if let Some(parent) = above {
            of(&parent, self.parent.clone())
        } else if name == Fqcn::server().as_str() {
            of(&Fqcn::server(), self.root.clone())
        } else {
            None
        }
    }
}

/// How this process dials a listener of its own.
fn loopback(url: &CellUrl) -> CellUrl {
    let host = match url.host() {
        "" | "0.0.0.0" => "127.0.0.1",
        "::" => "[::1]",
        _ => return url.clone(),
    };
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    let bare = format!("{}://{host}{port}{}", url.scheme(), url.path());
    let bare: CellUrl = bare.parse().expect("a URL with another host is one");
    url.params().fold(bare, |url, (key, value)| url.with_param(key, value))
}

/// The passive end of a pipe. It takes what comes and counts it.
#[derive(Debug)]
pub(super) struct End {
    pipe: Arc<CellPipe>,
    taking: JoinHandle<()>,
}

impl End {
    /// Opens an end that has its link when this returns.
    pub(super) async fn open(
        places: &Places,
        trust: &Trust,
        asked: &Attach,
        token: &str,
        count: Arc<Count>,
    ) -> Result<Self, HandlerError> {
        let place = places.find(&asked.to, &asked.scheme).ok_or_else(|| {
            let (me, to) = (&places.me, &asked.to);
            let advice = "start it with --root URL, or as a child of that cell with --name and --parent URL";
            HandlerError::invalid_request(format!(
                "'{me}' knows no way for a pipe to attach to '{to}'; {advice}"
            ))
        })?;
        let trust = trust.clone();
        let pipe = CellPipe::builder(Mode::Passive, &asked.site, token, place)
            .cell(move |cell| trust.give(cell))
            .build()
            .map_err(|error| HandlerError::invalid_request(chain(&error)))?;
        pipe.open(NAME).await.map_err(|error| HandlerError::failed(chain(&error)))?;
        let cell = pipe.cell().expect("the pipe is open");
        if tokio::time::timeout(PATIENCE, cell.connected()).await.is_err() {
            let why: Vec<_> = cell.dial_errors().iter().map(ToString::to_string).collect();
            pipe.close().await;
            let text =
                format!("the other end of the pipe found no way to '{}': {}", asked.to, why.join(" and "));
            return Err(HandlerError::failed(text));
        }
        let pipe = Arc::new(pipe);
        let taking = tokio::spawn(take_all(pipe.clone(), count));
        Ok(Self { pipe, taking })
    }

    pub(super) async fn close(self) {
        self.pipe.close().await;
        // What was acknowledged has been counted; the rest is for nobody.
        self.taking.abort();
    }
}

async fn take_all(pipe: Arc<CellPipe>, count: Arc<Count>) {
    while let Ok(Some(_)) = pipe.receive(None).await {
        count.note();
    }
}

/// The name of all pipes that are measured.
pub(super) const NAME: &str = "bench";

/// How long an end may take for its link.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(all(test, feature = "tcp"))]
mod tests {
    use super::*;

    #[test]
    fn ends_attach_to_this_cell_and_those_above_and_to_nobody_else() {
        let urls = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let places = Places {
            me: "relay-1.bench".parse().unwrap(),
            listening: urls(&["tcp://0:1", "ws://[::]:2/f3?a=b"]),
            root: urls(&["tcp://r:3", "tcp://r:4"]),
            parent: urls(&["tcp://p:5"]),
        };
        for (name, scheme, place) in [
            ("relay-1.bench", "tcp", Some("relay-1.bench@tcp://127.0.0.1:1")),
            ("relay-1.bench", "quic", Some("relay-1.bench@tcp://127.0.0.1:1")),
            ("relay-1.bench", "ws", Some("relay-1.bench@ws://[::1]:2/f3?a=b")),
            ("relay-1", "tcp", Some("relay-1@tcp://p:5")),
            ("server", "tcp", Some("server@tcp://r:3,tcp://r:4")),
            ("relay-2", "tcp", None),
        ] {
            let found = places.find(name, scheme).map(|place| place.to_string());
            assert_eq!(found.as_deref(), place, "{name}");
        }
        let root = Places { me: Fqcn::server(), listening: Vec::new(), root: Vec::new(), parent: Vec::new() };
        assert!(root.find("server", "tcp").is_none());
    }
}
