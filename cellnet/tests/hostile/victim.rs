//! The server that is attacked.

use std::{path::Path, time::Duration};

use cellnet::{
    Cell, CellBuilder, Fqcn, Message,
    tls::{CredentialFiles, Tls},
};
use cellnet_core::testkit::pki::Pki;

use crate::{eventually, process::Process, toll};

/// A server process that echoes on a plain channel, `task`, and on a streaming one, `echo`.
#[derive(Debug)]
pub(crate) struct Victim {
    process: Process,
    url: String,
    pki: Pki,
}

impl Victim {
    /// One that listens by this scheme, with good credentials.
    pub(crate) async fn listening(scheme: &str) -> Self {
        let pki = Pki::new();
        let kit = pki.kit("server");
        Self::with(scheme, pki, &kit).await
    }

    /// One with the credentials of a folder.
    pub(crate) async fn with(scheme: &str, pki: Pki, kit: &Path) -> Self {
        let listen = format!("{scheme}://127.0.0.1:0");
        let mut args =
            vec!["serve", "--name", "server", "--listen", &listen, "--echo", "task", "--echo", "echo"];
        if !["tcp", "ws"].contains(&scheme) {
            args.extend(["--credentials", kit.to_str().expect("a folder of the tests")]);
        }
        let mut process = Process::cellnet(&args);
        let ready = process.ready().await;
        let url = ready["listen"][0].as_str().expect("READY names the listener").to_owned();
        Self { process, url, pki }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        self.url.split("//").nth(1).and_then(|rest| rest.split('/').next()).expect("a URL with an address")
    }

    /// Who vouches for it.
    pub(crate) fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Describes a cell that dials it.
    pub(crate) fn dialler(&self, name: &str) -> CellBuilder {
        cellnet::builder(name.parse().expect("a valid name")).dial(self.url.parse().expect("a valid URL"))
    }

    /// A good cell with a link to it.
    pub(crate) async fn client(&self, name: &str) -> Cell {
        let cell = self.dialler(name).tls(load(&CredentialFiles::in_dir(self.pki.kit(name))));
        let cell = cell.start().await.expect("a good cell starts");
        cell.connected().await;
        cell
    }

    /// A normal client connects within five seconds and gets each of its answers within one.
    pub(crate) async fn serves_others(&self, name: &str) {
        self.serves_others_within(Duration::from_secs(1), name).await;
    }

    pub(crate) async fn serves_others_within(&self, limit: Duration, name: &str) {
        let cell = tokio::time::timeout(Duration::from_secs(5), self.client(name))
            .await
            .expect("a normal client connects within five seconds");
        for channel in ["task", "echo"] {
            let ask = cell.request(&Fqcn::server(), channel, "t", Message::new("x")).timeout(limit);
            let answer = ask.await.unwrap_or_else(|error| panic!("no answer on '{channel}': {error}"));
            assert!(answer.is_ok());
        }
        cell.shutdown(Duration::from_secs(5)).await;
    }

    /// The most memory that it ever held, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        toll::peak(self.process.pid())
    }

    /// Waits until it has logged something.
    pub(crate) async fn logs(&self, text: &str) {
        let stderr = || self.process.stderr();
        eventually(&format!("a log with '{text}'"), || stderr().contains(text), stderr).await;
    }
}

/// Credentials of files that are good as files.
pub(crate) fn load(files: &CredentialFiles) -> Tls {
    Tls::load(files.clone()).expect("the files are there")
}
