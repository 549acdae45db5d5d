//! Handlers that answer in the task that reads the connection.

use cellnet_core::{
    cell::{HandlerError, Request},
    message::Message,
    testkit::sim::{Sim, blob},
    wire::keys::cn,
};

#[tokio::test(start_paused = true)]
async fn a_quick_handler_answers_while_all_others_hang() {
    let sim = Sim::new().configured(|config| config.handlers = 1);
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    server.handle("task", "hang", |_| std::future::pending::<Result<Message, HandlerError>>());
    for channel in ["task", "stream"] {
        server.handle_quick(channel, "echo", |request: Request| Ok(Message::new(request.message.payload)));
    }
    let hanging = tokio::spawn(site.request(server.name(), "task", "hang", Message::empty()).into_future());
    for channel in ["task", "stream"] {
        for size in [1, 100_000] {
            let reply = site.request(server.name(), channel, "echo", blob(size)).await.unwrap();
            assert!(reply.is_ok(), "{channel}: {:?}", reply.error());
            assert_eq!(reply.payload.len(), size);
        }
    }
    assert!(!hanging.is_finished());
    hanging.abort();
}

#[tokio::test(start_paused = true)]
async fn a_quick_handler_that_fails_or_panics_is_answered_and_the_link_lives() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    server.handle_quick("task", "fail", |_| Err::<Message, _>(HandlerError::failed("no luck")));
    server.handle_quick("task", "panic", |_: Request| -> Result<Message, HandlerError> {
        panic!("on purpose")
    });
    for (topic, text) in [("fail", "no luck"), ("panic", "handler panicked")] {
        let reply = site.request(server.name(), "task", topic, Message::empty()).await.unwrap();
        assert_eq!(reply.error(), Some(text));
    }
    assert_eq!(site.neighbours(), [server.name().clone()]);
}

/// What a handler sees in the headers does not depend on where the request comes from.
#[tokio::test(start_paused = true)]
async fn a_request_to_oneself_says_what_it_is_for() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    for quick in [true, false] {
        let told = |request: Request| {
            let text = |key| request.message.headers.text(key).unwrap_or("nothing").to_owned();
            Ok::<_, HandlerError>(Message::new(
                [cn::CHANNEL, cn::TOPIC, cn::DESTINATION].map(text).join(" ").into_bytes(),
            ))
        };
        match quick {
            true => server.handle_quick("task", "t", told),
            false => server.handle("task", "t", move |request| std::future::ready(told(request))),
        }
        let reply = server.request(server.name(), "task", "t", Message::empty()).await.unwrap();
        assert_eq!(reply.payload.as_bytes(), b"task t server");
    }
}
