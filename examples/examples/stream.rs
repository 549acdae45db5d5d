//! Byte streams: the receiver reads while the sender writes, and both see how far it is.

use std::error::Error;

use bytes::Bytes;
use cellnet::{HandlerError, Message, SHUTDOWN, stream::IncomingStream, wire::Headers};
use tokio::{io::AsyncReadExt, sync::mpsc};

const TOTAL: usize = 24 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = cellnet::builder("server".parse()?).listen("tcp://127.0.0.1:0".parse()?).start().await?;
    let (told, mut sums) = mpsc::channel(1);
    server.handle_stream("logs", "upload", move |stream| add_up(stream, told.clone()));
    server.handle("echo", "*", |request: cellnet::Request| async move {
        Ok::<_, HandlerError>(Message::new(request.message.payload))
    });

    let site = cellnet::builder("site-1".parse()?).dial(server.listening()[0].clone()).start().await?;
    site.connected().await;

    // Each write waits until the receiver has room; at most a window (16 MiB) and a chunk are on the way.
    let mut stream = site.open_stream(server.name(), "logs", "upload", Headers::new(), Some(TOTAL as u64))?;
    let piece = Bytes::from(vec![1; 4 << 20]);
    for _ in 0..TOTAL / piece.len() {
        stream.write(piece.clone()).await?;
        let progress = stream.progress();
        println!("sent {} of {}", progress.sent, progress.to_send);
    }
    stream.finish().await?;
    assert_eq!(sums.recv().await, Some(TOTAL as u64));

    // A large request is a stream, too, and tells its progress.
    let reply = site
        .request(server.name(), "echo", "large", Message::new(piece.repeat(2)))
        .on_progress(|p| {
            println!("request {} of {}, reply {} of {}", p.sent, p.to_send, p.received, p.to_receive)
        })
        .await?;
    assert_eq!(reply.payload.len(), 8 << 20);

    site.shutdown(SHUTDOWN).await;
    server.shutdown(SHUTDOWN).await;
    Ok(())
}

/// Reads a stream as any other reader of bytes. What is not read yet stays with the sender, but for the window.
async fn add_up(mut stream: IncomingStream, told: mpsc::Sender<u64>) -> Result<(), HandlerError> {
    let (mut sum, mut buffer) = (0, vec![0; 64 << 10]);
    loop {
        // An error here is told to the sender, whose next write fails.
        let read = stream.read(&mut buffer).await.map_err(|error| HandlerError::failed(error.to_string()))?;
        if read == 0 {
            break;
        }
        sum += buffer[..read].iter().copied().map(u64::from).sum::<u64>();
    }
    let progress = stream.progress();
    println!("received {} of {}", progress.received, progress.to_receive);
    let _ = told.send(sum).await;
    Ok(())
}
