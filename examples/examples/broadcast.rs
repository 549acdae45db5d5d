//! One question to many cells at once, of which some answer, one fails and one is not there.

use std::{error::Error, time::Duration};

use cellnet::{Fqcn, HandlerError, Message, Request, RequestError, ReturnCode, SHUTDOWN};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = cellnet::builder("server".parse()?).listen("tcp://127.0.0.1:0".parse()?).start().await?;
    let mut sites = Vec::new();
    for name in ["site-1", "site-2", "site-3"] {
        let site = cellnet::builder(name.parse()?).dial(server.listening()[0].clone()).start().await?;
        site.handle("task", "score", score);
        site.connected().await;
        sites.push(site);
    }

    let targets: Vec<Fqcn> =
        ["site-1", "site-2", "site-3", "site-4"].map(str::parse).into_iter().collect::<Result<_, _>>()?;
    let question = Message::new("weights");
    let outcomes = server.broadcast(&targets, "task", "score", question, Duration::from_secs(2)).await;

    // One outcome for each target, in the order of the targets.
    for (target, outcome) in &outcomes {
        match outcome {
            Ok(reply) if reply.is_ok() => println!("{target}: {} bytes", reply.payload.len()),
            Ok(reply) => println!("{target}: says {:?}", reply.error().unwrap_or_default()),
            Err(error) => println!("{target}: {error}"),
        }
    }
    let [one, two, three, four] = outcomes.as_slice() else { return Err("four outcomes are due".into()) };
    assert!(one.1.as_ref().is_ok_and(Message::is_ok) && two.1.as_ref().is_ok_and(Message::is_ok));
    assert_eq!(three.1.as_ref().ok().and_then(Message::code), Some(ReturnCode::SERVICE_UNAVAILABLE));
    assert!(matches!(four.1, Err(RequestError::Unreachable(_))));

    for site in sites {
        site.shutdown(SHUTDOWN).await;
    }
    server.shutdown(SHUTDOWN).await;
    Ok(())
}

async fn score(request: Request) -> Result<Message, HandlerError> {
    match request.message.headers.text("cn__to") {
        Some("site-3") => Err(HandlerError::unavailable("still training")),
        _ => Ok(Message::new("0.97")),
    }
}
