//! The suite of all drivers on WebSocket under TLS.

#![cfg(feature = "tls")]

mod common;

use cellnet_core::{
    testkit::{
        conformance::{self, RawWriter, Rig},
        pki::Pki,
    },
    tls::TlsMode,
};
use cellnet_ws::Ws;
use tokio::net::{TcpSocket, TcpStream};

use common::{UPGRADE, Wrapping, ask};

fn rig(mode: TlsMode) -> Rig {
    // Bound until the process ends, so that nobody can listen there.
    let unused = TcpSocket::new_v4().unwrap();
    unused.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = unused.local_addr().unwrap();
    std::mem::forget(unused);
    let tls = Pki::new().tls("site-1", mode);
    let client = tls.client("127.0.0.1", mode, &[]).unwrap();
    let rig = Rig::new(Ws::new(), "wss://127.0.0.1:0", &format!("wss://{nobody}")).with_tls(tls);
    let rig = rig.with_raw(move |url| {
        let client = client.clone();
        async move {
            let stream = TcpStream::connect((url.host(), url.port().unwrap())).await?;
            let mut stream = client.connect(stream).await?;
            ask(&mut stream, UPGRADE).await?;
            Ok(Box::new(Wrapping::new(stream)) as RawWriter)
        }
    });
    let rig = rig.with_silent(|url| async move {
        let stream = TcpStream::connect((url.host(), url.port().unwrap())).await?;
        Ok(Box::new(stream) as RawWriter)
    });
    let v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    if v6 { rig.with_v6("wss://[::1]:0") } else { rig }
}

mod tls {
    use super::*;
    conformance::suite!(rig(TlsMode::Tls));
}

mod mtls {
    use super::*;
    conformance::suite!(rig(TlsMode::Mtls));
}
