//! Three cells in a row: a request finds its way through a relay, in both directions.

use std::error::Error;

use cellnet::{ANY, Cell, HandlerError, Message, Request, SHUTDOWN};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let anywhere = "tcp://127.0.0.1:0";
    let server = cellnet::builder("server".parse()?).listen(anywhere.parse()?).start().await?;

    // A relay is any cell that listens and has somebody above it.
    let relay = cellnet::builder("relay-1".parse()?)
        .listen(anywhere.parse()?)
        .dial(server.listening()[0].clone())
        .start()
        .await?;

    // The site's name says where it is: below the relay.
    let site = cellnet::builder("relay-1.site-1".parse()?).dial(relay.listening()[0].clone()).start().await?;
    relay.connected().await;
    site.connected().await;

    for cell in [&server, &site] {
        cell.handle("where", ANY, answer_with_route);
    }
    let up = ask(&site, &server).await?;
    assert_eq!(up, "relay-1.site-1 > relay-1 > server");
    let down = ask(&server, &site).await?;
    assert_eq!(down, "server > relay-1 > relay-1.site-1");
    assert_eq!(site.neighbours(), [relay.name().clone()]);
    // Two requests and two replies.
    println!("the relay passed on {} messages", relay.counters().forwarded.get());

    for cell in [site, relay, server] {
        cell.shutdown(SHUTDOWN).await;
    }
    Ok(())
}

async fn ask(from: &Cell, to: &Cell) -> Result<String, Box<dyn Error>> {
    let reply = from.request(to.name(), "where", "now", Message::empty()).await?;
    let route = String::from_utf8(reply.payload.to_bytes().into())?;
    println!("{} asked {}: {route}", from.name(), to.name());
    Ok(route)
}

/// Every cell that handles a message writes its name into the header `cn__route`.
async fn answer_with_route(request: Request) -> Result<Message, HandlerError> {
    let route = request.message.headers.get("cn__route");
    let route = route.as_ref().and_then(|route| route.as_array());
    let names = route.unwrap_or_default().iter().filter_map(|hop| hop.as_array()?.first()?.as_str());
    Ok(Message::new(names.collect::<Vec<_>>().join(" > ")))
}
