//! The suite of all drivers on loopback TCP.

use cellnet_core::testkit::conformance::{self, RawWriter, Rig};
use cellnet_tcp::Tcp;
use tokio::net::{TcpSocket, TcpStream};

fn rig() -> Rig {
    // Bound until the process ends, so that nobody can listen there.
    let unused = TcpSocket::new_v4().unwrap();
    unused.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = unused.local_addr().unwrap();
    std::mem::forget(unused);
    let rig =
        Rig::new(Tcp::new(), "tcp://127.0.0.1:0", &format!("tcp://{nobody}")).with_raw(|url| async move {
            let stream = TcpStream::connect((url.host(), url.port().unwrap())).await?;
            Ok(Box::new(stream) as RawWriter)
        });
    let v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    if v6 { rig.with_v6("tcp://[::1]:0") } else { rig }
}

conformance::suite!(rig());
