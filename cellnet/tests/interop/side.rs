//! The two sides of a pipe, one of each kind or both ours, and where they attach.

use std::{sync::Arc, time::Duration};

use cellnet_pipe::{
    CellPipe, ConnectionProperties, ConnectionSecurity, HandlerConfig, MessageType, Mode, Pipe, PipeEvent,
    PipeHandler, PipeMessage, Place,
};
use serde_json::{Value as Json, json};

use crate::{
    leg::{Leg, TCP},
    payload::{decoded, object, payload},
    process::Process,
    support::{PATIENCE, fqcn, in_time, parse},
};

/// What is to be tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) ours: Mode,
    /// Whether we ask and the reference answers, or the other way round.
    pub(crate) we_ask: bool,
    /// Whether both sides use a handler.
    pub(crate) handled: bool,
}

/// Where both sides attach.
#[derive(Debug, Clone)]
pub(crate) struct Attach {
    place: Place,
    /// For the reference.
    url: String,
    scope: Json,
    leg: Leg,
}

/// The URLs of the cells that a site knows.
pub(crate) struct Known {
    pub(crate) root: String,
    pub(crate) cp: String,
    pub(crate) relay: Option<String>,
}

impl Attach {
    /// To the server, without connection properties.
    pub(crate) fn root(url: &str) -> Self {
        Self::by(TCP, url)
    }

    /// To the server, over such a connection.
    pub(crate) fn by(leg: Leg, url: &str) -> Self {
        Self { place: Place::root(leg.url(url)), url: url.into(), scope: json!({}), leg }
    }

    /// As connection properties say.
    pub(crate) fn known(known: &Known, root_url: &str) -> Self {
        Self::known_by(TCP, known, root_url)
    }

    /// As connection properties say, over such a connection.
    pub(crate) fn known_by(leg: Leg, known: &Known, root_url: &str) -> Self {
        let security: ConnectionSecurity = leg.mode.as_str().parse().expect("the names are the same");
        let place = |name: &str, url: &str| Place::new(fqcn(name), parse(url)).with_security(security);
        let properties = ConnectionProperties {
            root: place("server", &known.root),
            cp: place("site-1", &known.cp),
            relay: known.relay.as_ref().map(|url| place("relay-1", url)),
        };
        let mut scope = json!({
            "root": {"fqcn": "server", "url": known.root, "connection_security": leg.mode.as_str()},
            "cp": {"fqcn": "site-1", "url": known.cp, "connection_security": leg.mode.as_str()},
        });
        if let Some(url) = &known.relay {
            scope["relay"] = json!({"fqcn": "relay-1", "url": url, "connection_security": leg.mode.as_str()});
        }
        let place = properties.choose(root_url).expect("a known URL").clone();
        Self { place, url: root_url.into(), scope, leg }
    }

    /// The reference's side.
    pub(crate) fn python(&self, case: Case, token: &str, more: &[&str]) -> Process {
        let mode = case.ours.peer().to_string();
        let scope = self.scope.to_string();
        let mut args = vec!["--mode", &mode, "--token", token, "--url", &self.url, "--scope", &scope];
        if case.handled && !more.contains(&"--handler") {
            args.push("--handler");
        }
        args.extend(more);
        self.leg.python("cell_pipe", SITE, &args)
    }
}

/// Our side, bare or with a handler.
pub(crate) struct Ours {
    pub(crate) pipe: Arc<CellPipe>,
    handler: Option<PipeHandler>,
    timeout: Duration,
}

impl Ours {
    pub(crate) async fn open(case: Case, attach: &Attach, token: &str) -> Self {
        let mut config = HandlerConfig::default();
        // Counts while the other process starts, too.
        config.heartbeat_timeout = Some(2 * PATIENCE);
        Self::open_with(case, attach, token, config, PATIENCE).await
    }

    /// With this handler, if any, and with so much time for each try to send.
    pub(crate) async fn open_with(
        case: Case,
        attach: &Attach,
        token: &str,
        config: HandlerConfig,
        timeout: Duration,
    ) -> Self {
        let builder = CellPipe::builder(case.ours, SITE, token, attach.place.clone());
        let builder = builder.cell(attach.leg.equipment(SITE));
        let pipe = Arc::new(builder.build().expect("a valid name"));
        pipe.open("task").await.expect("a pipe that opens");
        let cell = pipe.cell().expect("an open pipe");
        in_time("the pipe's link", cell.connected()).await;
        let handler = case.handled.then(|| {
            let handler = PipeHandler::new(pipe.clone(), config).expect("a sound configuration");
            handler.start();
            handler
        });
        Self { pipe, handler, timeout }
    }

    /// Sends a message and checks the echo.
    pub(crate) async fn asks(&self, number: usize, kind: &str) {
        let data = payload(kind, SIZE, number);
        let request = PipeMessage::new_request("train".parse().expect("a topic"), data.clone());
        self.send(&request).await;
        let reply = self.message().await;
        assert_eq!(reply.msg_type, MessageType::Reply);
        assert_eq!((reply.topic, reply.req_id), (request.topic, Some(request.msg_id)));
        assert!(decoded(&reply.data) == decoded(&data), "echo of {kind}");
    }

    /// Checks a message and answers it; gives its id.
    pub(crate) async fn answers(&self, number: usize, kind: &str) -> String {
        let request = self.message().await;
        assert_eq!((request.msg_type, request.topic.as_str()), (MessageType::Request, "train"));
        assert!(decoded(&request.data) == decoded(&payload(kind, SIZE, number)), "request {number}: {kind}");
        self.send(&PipeMessage::new_reply(&request, request.data.clone())).await;
        request.msg_id
    }

    pub(crate) async fn send(&self, message: &PipeMessage) {
        let sent = match &self.handler {
            Some(handler) => {
                let sent = handler.send_to_peer(message, Some(self.timeout), None).await;
                sent.expect("a handler that runs")
            }
            None => self.pipe.send(message, Some(self.timeout)).await.expect("an open pipe"),
        };
        assert!(sent.is_taken(), "{message:?}: {sent:?}");
    }

    /// The next message, which must be one of the application's.
    pub(crate) async fn message(&self) -> PipeMessage {
        match self.event().await {
            PipeEvent::Message(message) => message,
            other => panic!("wanted a message, got {other:?}"),
        }
    }

    pub(crate) async fn event(&self) -> PipeEvent {
        let next = async {
            match &self.handler {
                Some(handler) => handler.next().await.expect("an event"),
                None => self.pipe.receive(None).await.expect("an open pipe").expect("a message").into(),
            }
        };
        in_time("an event of a pipe", next).await
    }

    /// END or ABORT.
    pub(crate) async fn says(&self, ending: &str) {
        let data = object("bye".into());
        match (&self.handler, ending) {
            (Some(handler), "end") => handler.notify_end(data).await,
            (Some(handler), _) => handler.notify_abort(data).await,
            (None, "end") => self.send(&PipeMessage::end(data)).await,
            (None, _) => self.send(&PipeMessage::abort(data)).await,
        }
    }

    pub(crate) async fn close(self) {
        if let Some(handler) = &self.handler {
            in_time("the end of a handler", handler.stop()).await;
        }
        in_time("the end of a pipe", self.pipe.close()).await;
    }
}

/// Whose pipes these are.
const SITE: &str = "site-1";

/// Bytes of data in a message; more than one chunk.
pub(crate) const SIZE: usize = 1_500_000;
