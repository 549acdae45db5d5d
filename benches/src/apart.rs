//! Two cells on runtimes of their own, as two machines would have.

use std::{
    num::NonZero,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cellnet_core::{
    cell::{Cell, CellBuilder},
    message::Message,
    testkit::{
        pki::Pki,
        sim::{Tree, echo, fqcn},
    },
    tls::TlsMode,
};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{PLAIN, driver::is_secure};

/// A server that echoes on [`PLAIN`], and a site with a link to it over loopback. Each has half of the processors.
#[derive(Debug)]
pub struct Apart {
    /// Where the server runs.
    pub far: Runtime,
    /// Where the site runs.
    pub near: Runtime,
    /// Answers.
    pub server: Cell,
    /// Asks.
    pub site: Cell,
}

impl Apart {
    /// Links them by a scheme, of which `drivers` adds the driver.
    pub fn over(scheme: &str, pki: &Pki, drivers: impl Fn(CellBuilder) -> CellBuilder) -> Self {
        let share = (std::thread::available_parallelism().map_or(1, NonZero::get) / 2).max(1);
        let runtime = || Builder::new_multi_thread().worker_threads(share).enable_all().build();
        let runtime = || runtime().expect("a runtime starts");
        let (far, near) = (runtime(), runtime());
        let cell = |name: &str| {
            let builder = drivers(Cell::builder(fqcn(name)).resolver(Tree));
            if is_secure(scheme) { builder.tls(pki.tls(name, TlsMode::Tls)) } else { builder }
        };
        let url = format!("{scheme}://127.0.0.1:0").parse().expect("a valid URL");
        let server = far.block_on(cell("server").listen(url).start()).expect("loopback can be listened on");
        let url = server.listening()[0].clone();
        let site = near.block_on(cell("site").dial(url).start()).expect("the driver is known");
        let connected = near.block_on(async { timeout(Duration::from_secs(10), site.connected()).await });
        connected.expect("the server is there");
        server.handle(PLAIN, "*", echo);
        Self { far, near, server, site }
    }

    /// Asks with 64 bytes; gives how long the reply took.
    pub async fn ask(&self) -> Duration {
        let asked = Instant::now();
        let question = Message::new(Bytes::from_static(&[7; 64]));
        let reply = self.site.request(self.server.name(), PLAIN, "t", question).await;
        assert!(reply.expect("the server answers").is_ok());
        asked.elapsed()
    }
}
