//! Two cells: a server that greets, and a site that asks it.

use std::error::Error;

use cellnet::{Fqcn, HandlerError, Message, Request, ReturnCode, SHUTDOWN};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The server listens; port 0 takes any free one.
    let server = cellnet::builder(Fqcn::server()).listen("tcp://127.0.0.1:0".parse()?).start().await?;
    server.handle("greeter", "hello", |request: Request| async move {
        let who = String::from_utf8_lossy(request.message.payload.as_bytes()).into_owned();
        if who.is_empty() {
            return Err(HandlerError::invalid_request("say who you are"));
        }
        Ok(Message::new(format!("hello {who}, I know you as {}", request.origin)))
    });

    // The site only dials out. It keeps the link, and dials again if it is lost.
    let site = cellnet::builder("site-1".parse()?).dial(server.listening()[0].clone()).start().await?;
    site.connected().await;

    let reply = site.request(server.name(), "greeter", "hello", Message::new("Ada")).await?;
    println!("{}", String::from_utf8_lossy(reply.payload.as_bytes()));
    assert!(reply.is_ok());
    assert_eq!(reply.payload.as_bytes(), b"hello Ada, I know you as site-1");

    // The other end's failures are replies with a code; an `Err` here means that no reply came.
    let reply = site.request(server.name(), "greeter", "hello", Message::empty()).await?;
    println!("without a name: {:?}, {:?}", reply.code(), reply.error());
    assert_eq!(reply.code(), Some(ReturnCode::INVALID_REQUEST));

    site.shutdown(SHUTDOWN).await;
    server.shutdown(SHUTDOWN).await;
    Ok(())
}
