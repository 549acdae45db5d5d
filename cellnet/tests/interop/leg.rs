//! How two cells of a test are connected, and cells of both kinds that are connected so.

use std::path::Path;

use cellnet_core::{
    CellUrl,
    cell::{Cell, CellBuilder},
    tls::TlsMode,
};

use crate::{
    kits::{kit, participant, tls},
    process::Process,
    support::{self, connected, parse},
};

/// A scheme, and what protects the connection. Cells show the credentials that go with their names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leg {
    pub(crate) scheme: &'static str,
    pub(crate) mode: TlsMode,
}

pub(crate) const TCP: Leg = Leg { scheme: "tcp", mode: TlsMode::Clear };
pub(crate) const STCP: Leg = Leg { scheme: "stcp", mode: TlsMode::Mtls };
pub(crate) const STCP_TLS: Leg = Leg { scheme: "stcp", mode: TlsMode::Tls };
pub(crate) const HTTP: Leg = Leg { scheme: "http", mode: TlsMode::Clear };
pub(crate) const HTTPS: Leg = Leg { scheme: "https", mode: TlsMode::Mtls };
pub(crate) const HTTPS_TLS: Leg = Leg { scheme: "https", mode: TlsMode::Tls };
/// What a start-up kit asks for if its scheme is `http`.
pub(crate) const HTTP_MTLS: Leg = Leg { scheme: "http", mode: TlsMode::Mtls };

impl Leg {
    /// Describes a cell of ours.
    pub(crate) fn builder(self, name: &str) -> CellBuilder {
        let builder = support::builder(name);
        if self.mode == TlsMode::Clear { builder } else { builder.tls(tls(participant(name))) }
    }

    /// What the cell of a pipe needs to have such a connection.
    pub(crate) fn equipment(self, name: &str) -> impl Fn(CellBuilder) -> CellBuilder + Send + Sync + 'static {
        let tls = (self.mode != TlsMode::Clear).then(|| tls(participant(name)));
        move |builder| match &tls {
            Some(tls) => cellnet::drivers(builder).tls(tls.clone()),
            None => cellnet::drivers(builder),
        }
    }

    /// A cell of ours that listens.
    pub(crate) async fn listening(self, name: &str) -> Cell {
        self.builder(name).listen(self.any_port()).start().await.expect("a port of loopback")
    }

    /// A cell of ours with a link to whoever listens there.
    pub(crate) async fn dialling(self, name: &str, url: &str) -> Cell {
        connected(self.builder(name).dial(self.url(url))).await
    }

    /// A cell of ours with a link to whoever listens there, which listens itself.
    pub(crate) async fn relaying(self, name: &str, url: &str) -> Cell {
        connected(self.builder(name).listen(self.any_port()).dial(self.url(url))).await
    }

    /// A script of the reference's side for the cell of this name.
    pub(crate) fn python(self, script: &str, name: &str, args: &[&str]) -> Process {
        self.python_with(script, &kit_if(self, name), args)
    }

    /// A script of the reference's side with these credentials.
    pub(crate) fn python_with(self, script: &str, kit: &Path, args: &[&str]) -> Process {
        let (kit, mode) = (kit.to_string_lossy(), self.mode.to_string());
        let secure = ["--kit", &kit, "--security", &mode];
        let secure = if self.mode == TlsMode::Clear { &[][..] } else { &secure };
        Process::python(script, &[secure, args].concat())
    }

    /// The root of the reference, and where it listens.
    pub(crate) async fn root(self, args: &[&str]) -> (Process, String) {
        let anywhere = format!("{}://127.0.0.1:0", self.scheme);
        let url = if args.contains(&"--url") { &[][..] } else { &["--url", &anywhere] };
        ready(self.python("root_cell", "server", &[url, args].concat())).await
    }

    /// The relay of the reference, and where it listens.
    pub(crate) async fn relay(self, args: &[&str]) -> (Process, String) {
        ready(self.python("relay_cell", "relay-1", &[&["--scheme", self.scheme], args].concat())).await
    }

    /// Where to listen.
    pub(crate) fn any_port(self) -> CellUrl {
        self.url(&format!("{}://127.0.0.1:0", self.scheme))
    }

    /// A URL with what protects the connection.
    pub(crate) fn url(self, url: &str) -> CellUrl {
        let clear = self.mode == TlsMode::Clear;
        if clear { parse(url) } else { parse(&format!("{url}?tls={}", self.mode)) }
    }
}

fn kit_if(leg: Leg, name: &str) -> std::path::PathBuf {
    if leg.mode == TlsMode::Clear { Default::default() } else { kit(participant(name)) }
}

/// A process that listens, and where.
pub(crate) async fn ready(mut process: Process) -> (Process, String) {
    let url = process.ready().await["url"].as_str().expect("a URL").to_owned();
    (process, url)
}
