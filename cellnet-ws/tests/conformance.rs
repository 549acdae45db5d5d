//! The suite of all drivers on WebSocket over loopback TCP.

mod common;

use cellnet_core::testkit::conformance::{self, RawWriter, Rig};
use cellnet_ws::Ws;
use tokio::net::{TcpSocket, TcpStream};

use common::{UPGRADE, Wrapping, ask};

fn rig() -> Rig {
    // Bound until the process ends, so that nobody can listen there.
    let unused = TcpSocket::new_v4().unwrap();
    unused.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = unused.local_addr().unwrap();
    std::mem::forget(unused);
    let rig = Rig::new(Ws::new(), "ws://127.0.0.1:0", &format!("ws://{nobody}"));
    let rig = rig.with_raw(|url| async move {
        let mut stream = TcpStream::connect((url.host(), url.port().unwrap())).await?;
        stream.set_nodelay(true)?;
        ask(&mut stream, UPGRADE).await?;
        Ok(Box::new(Wrapping::new(stream)) as RawWriter)
    });
    let rig = rig.with_silent(|url| async move {
        let stream = TcpStream::connect((url.host(), url.port().unwrap())).await?;
        Ok(Box::new(stream) as RawWriter)
    });
    let v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    if v6 { rig.with_v6("ws://[::1]:0") } else { rig }
}

conformance::suite!(rig());
