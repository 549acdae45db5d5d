//! A URL scheme of one's own: `unix://localhost/PATH` carries frames over Unix sockets.

use std::{error::Error, sync::Arc};

use async_trait::async_trait;
use cellnet::{
    Cell, CellUrl, HandlerError, Message, Request, SHUTDOWN, Scheme,
    stats::Budget,
    transport::{
        Accepting, Bind, Connection, ConnectionInfo, Listener, Target, Transport, TransportError, framed,
    },
};
use tokio::net::{UnixListener, UnixStream};

/// The driver. It knows nothing of cells, headers or routing.
#[derive(Debug)]
struct Unix([Scheme; 1]);

#[async_trait]
impl Transport for Unix {
    fn schemes(&self) -> &[Scheme] {
        &self.0
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        let path = target.url.path();
        let socket = UnixStream::connect(path)
            .await
            .map_err(|e| TransportError::io(format!("connect to {path}"), e))?;
        Ok(connection(socket, path, target.budget.clone()))
    }

    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        let path = bind.url.path();
        let socket =
            UnixListener::bind(path).map_err(|e| TransportError::io(format!("listen on {path}"), e))?;
        Ok(Box::new(Bound { url: bind.url.clone(), budget: bind.budget.clone(), socket }))
    }
}

#[derive(Debug)]
struct Bound {
    url: CellUrl,
    budget: Arc<Budget>,
    socket: UnixListener,
}

#[async_trait]
impl Listener for Bound {
    fn local_url(&self) -> &CellUrl {
        &self.url
    }

    async fn accept(&mut self) -> Result<Accepting, TransportError> {
        let (socket, _) = self.socket.accept().await.map_err(|e| TransportError::io("accept", e))?;
        // A handshake of the transport's own (TLS, an upgrade) would go into the future that is returned.
        let connection = connection(socket, "a neighbour", self.budget.clone());
        Ok(Box::pin(async { Ok(connection) }))
    }
}

/// `framed` makes a lane of anything that reads and writes bytes.
fn connection(socket: UnixStream, peer: &str, budget: Arc<Budget>) -> Connection {
    let info = ConnectionInfo::new("here", peer);
    let (read, write) = socket.into_split();
    let lane = framed::lane(read, write, &info, budget);
    Connection::new(info, lane)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("cellnet-example-{}.sock", std::process::id()));
    let url: CellUrl = format!("unix://localhost{}", path.display()).parse()?;

    let server: Cell =
        cellnet::builder("server".parse()?).transport(unix()?).listen(url.clone()).start().await?;
    server.handle("task", "*", |request: Request| async move {
        Ok::<_, HandlerError>(Message::new(request.message.payload))
    });
    let site = cellnet::builder("site-1".parse()?).transport(unix()?).dial(url).start().await?;
    site.connected().await;
    let reply = site.request(server.name(), "task", "echo", Message::new("through a file")).await?;
    assert_eq!(reply.payload.as_bytes(), b"through a file");
    println!("{}", String::from_utf8_lossy(reply.payload.as_bytes()));

    site.shutdown(SHUTDOWN).await;
    server.shutdown(SHUTDOWN).await;
    std::fs::remove_file(path)?;
    Ok(())
}

fn unix() -> Result<Unix, cellnet::UrlError> {
    Ok(Unix(["unix".parse()?]))
}
