//! By which transport each cell of the demo reaches the one above it.

use cellnet::{Cell, CellUrl};

use crate::cli::status::Failure;

/// The way from one cell up to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leg {
    who: &'static str,
    /// Schemes, the one that is meant first.
    schemes: &'static [&'static str],
}

/// From the relay to the server.
pub(super) const RELAY: Leg = Leg { who: "relay-1", schemes: &["quic", "wss", "stcp", "tcp", "ws"] };
/// From site-1 to the relay.
pub(super) const SITE_1: Leg = Leg { who: "site-1", schemes: &["wss", "ws", "stcp", "tcp", "quic"] };
/// From site-2 to the relay.
pub(super) const SITE_2: Leg = Leg { who: "site-2", schemes: &["stcp", "tcp", "quic", "wss", "ws"] };

/// What the server listens on, as far as it is compiled in.
const SERVER: [&str; 5] = ["quic", "stcp", "wss", "tcp", "ws"];

impl Leg {
    /// The first of the schemes that is compiled in.
    fn scheme(self) -> Result<&'static str, Failure> {
        let there = |scheme: &&&str| cellnet::schemes().any(|known| known == **scheme);
        self.schemes.iter().find(there).copied().ok_or_else(|| {
            Failure::usage(
                "no transport is compiled in; build cellnet with one of the features tcp, quic and ws",
            )
        })
    }

    /// Where the cell above listens for this.
    pub(super) fn any_port(self) -> Result<CellUrl, Failure> {
        Ok(any_port(self.scheme()?))
    }

    /// Of what a cell listens on, the URL that is meant.
    pub(super) fn choose(self, above: &Cell) -> Result<CellUrl, Failure> {
        let scheme = self.scheme()?;
        let listening = above.listening().iter().find(|url| url.scheme().as_str() == scheme);
        Ok(listening.expect("the cell above listens for every leg").clone())
    }

    /// Says what is used in place of a transport that is not there.
    pub(super) fn substitute(self) -> Option<String> {
        let (meant, used) = (self.schemes[0], self.scheme().ok()?);
        (meant != used).then(|| format!("{meant} is not compiled in: {} comes by {used}", self.who))
    }
}

/// Everything the server listens on.
pub(super) fn of_server() -> impl Iterator<Item = CellUrl> {
    let there = |scheme: &&str| cellnet::schemes().any(|known| known == *scheme);
    SERVER.into_iter().filter(there).map(any_port)
}

fn any_port(scheme: &str) -> CellUrl {
    format!("{scheme}://127.0.0.1:0").parse().expect("a valid URL")
}

/// How a cell reached the one above it, and how that is protected.
pub(super) fn way_up(cell: &Cell) -> String {
    match cell.dialled().first() {
        Some((above, url)) => {
            let protection = cell.protection(above).map_or("lost", |mode| mode.as_str());
            format!("{} ({protection})", url.scheme())
        }
        None => "no link".into(),
    }
}
