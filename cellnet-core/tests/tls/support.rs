//! Two sides that shake hands over a stream in memory.

use std::path::Path;

use cellnet_core::{
    tls::{CredentialFiles, Tls, TlsMode},
    transport::ConnectionInfo,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// What each side knows of the other after a handshake and one byte each way, or why there was none.
#[derive(Debug)]
pub(crate) struct Shaken {
    pub(crate) dialler: Result<ConnectionInfo, String>,
    pub(crate) listener: Result<ConnectionInfo, String>,
}

impl Shaken {
    /// The names that dialler and listener see.
    pub(crate) fn names(&self) -> (Option<&str>, Option<&str>) {
        let name = |side: &'_ Result<ConnectionInfo, String>| side.as_ref().unwrap().peer_cn.clone();
        let leak = |name: Option<String>| name.map(|name| &*name.leak());
        (leak(name(&self.dialler)), leak(name(&self.listener)))
    }

    /// What both sides say.
    pub(crate) fn reasons(&self) -> String {
        let reason = |side: &Result<ConnectionInfo, String>| side.as_ref().err().cloned().unwrap_or_default();
        format!("dialler: {}; listener: {}", reason(&self.dialler), reason(&self.listener))
    }
}

pub(crate) async fn shake(dialler: (&Tls, TlsMode, &str), listener: (&Tls, TlsMode)) -> Shaken {
    let client = dialler.0.client(dialler.2, dialler.1, &[]).unwrap();
    let server = listener.0.server(listener.1, &[]).unwrap();
    let (near, far) = duplex(64 * 1024);
    let dial = async {
        let mut stream = client.connect(near).await.map_err(|error| error.to_string())?;
        let mut info = ConnectionInfo::new("", "");
        client.describe(&mut info, stream.get_ref().1.peer_certificates());
        // Under TLS 1.3 the dialler learns with the first byte whether its certificate was taken.
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        stream.read_u8().await.map_err(|error| error.to_string())?;
        Ok(info)
    };
    let listen = async {
        let mut stream = server.accept(far).await.map_err(|error| error.to_string())?;
        let mut info = ConnectionInfo::new("", "");
        server.describe(&mut info, stream.get_ref().1.peer_certificates());
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        stream.read_u8().await.map_err(|error| error.to_string())?;
        Ok(info)
    };
    let (dialler, listener) = tokio::join!(dial, listen);
    Shaken { dialler, listener }
}

pub(crate) fn load(dir: &Path) -> Tls {
    Tls::load(CredentialFiles::in_dir(dir)).unwrap()
}
