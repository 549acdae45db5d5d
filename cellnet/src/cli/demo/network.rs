//! The cells of the demo and their pipes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use cellnet::{
    ANY, Cell, CellBuilder, CellEvent, CellUrl, Events, Fqcn, HandlerError, Message, Payload, Request,
    SHUTDOWN,
    pipe::{CellPipe, HandlerConfig, MessageType, Mode, Pipe, PipeEvent, PipeHandler, PipeMessage, Place},
    wire::{Headers, Value, keys::cn},
};
use tokio::task::JoinHandle;

use crate::cli::status::{Failure, Status, chain};

/// The relay's name.
pub(super) const RELAY: &str = "relay-1";
/// A channel whose messages travel plainly.
pub(super) const ASK: &str = "task";
/// A channel whose messages travel as blobs.
pub(super) const BLOB: &str = "model";

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) server: Cell,
    relay: Cell,
    pub(super) sites: Vec<Site>,
}

/// A site and its pipe.
#[derive(Debug)]
pub(super) struct Site {
    cell: Cell,
    pub(super) pipe: Link,
}

impl Network {
    /// Starts every cell and waits until all are connected.
    pub(super) async fn start() -> Result<Self, Failure> {
        let server = builder(&Fqcn::server()).listen(any_port()).start().await?;
        let relay =
            builder(&name(RELAY)).listen(any_port()).dial(server.listening()[0].clone()).start().await?;
        relay.connected().await;
        let mut sites = Vec::new();
        for site in ["site-1", "site-2"] {
            sites.push(Site::start(site, &relay).await?);
        }
        Ok(Self { server, relay, sites })
    }

    pub(super) fn relay_url(&self) -> &CellUrl {
        &self.relay.listening()[0]
    }

    pub(super) fn site_names(&self) -> Vec<Fqcn> {
        self.sites.iter().map(|site| site.cell.name().clone()).collect()
    }

    /// Who is linked to whom, as the cells see it now.
    pub(super) fn tree(&self) -> String {
        let mut text =
            format!("server    {}\n└── {RELAY}    {}\n", self.server.listening()[0], self.relay_url());
        let mut below: Vec<_> =
            self.relay.neighbours().into_iter().filter(|name| !name.is_server()).collect();
        below.sort();
        let last = below.len().saturating_sub(1);
        for (at, name) in below.iter().enumerate() {
            let branch = if at == last { "└──" } else { "├──" };
            text += &format!("    {branch} {name}\n");
        }
        text
    }

    /// Ends the relay at once, whatever it has in its queues, and waits until all its neighbours know.
    pub(super) async fn kill_relay(&mut self) -> Result<(), Failure> {
        let events: Vec<Events> = self.around_relay().map(Cell::events).collect();
        self.relay.shutdown(Duration::ZERO).await;
        for mut events in events {
            let gone = |event: &CellEvent| matches!(event, CellEvent::Disconnected { peer, .. } if peer.as_str() == RELAY);
            wait_for(&mut events, gone).await?;
        }
        Ok(())
    }

    /// Starts the relay where it was and waits until all its neighbours are back.
    pub(super) async fn restart_relay(&mut self) -> Result<(), Failure> {
        let mut events = self.server.events();
        let url = self.relay_url().clone();
        self.relay =
            builder(&name(RELAY)).listen(url).dial(self.server.listening()[0].clone()).start().await?;
        let back =
            |event: &CellEvent| matches!(event, CellEvent::Connected { peer, .. } if peer.as_str() == RELAY);
        wait_for(&mut events, back).await?;
        for site in &self.sites {
            for cell in site.cells() {
                cell.connected().await;
            }
        }
        Ok(())
    }

    /// Every exchange was delivered exactly once, although some were sent several times.
    pub(super) fn check_counts(&self) -> Result<String, Failure> {
        for Site { pipe, .. } in &self.sites {
            let (sent, delivered) = (pipe.sent.load(Relaxed), pipe.delivered.load(Relaxed));
            if sent != delivered {
                let text = format!("{pipe}: {sent} messages were sent and {delivered} delivered");
                return Err(Failure::new(Status::Integrity, text));
            }
        }
        Ok("every message of the pipes was delivered exactly once".into())
    }

    pub(super) async fn stop(self) {
        for site in self.sites {
            site.pipe.stop().await;
            site.cell.shutdown(SHUTDOWN).await;
        }
        self.relay.shutdown(SHUTDOWN).await;
        self.server.shutdown(SHUTDOWN).await;
    }

    /// The cells that have a link to the relay.
    fn around_relay(&self) -> impl Iterator<Item = &Cell> {
        std::iter::once(&self.server).chain(self.sites.iter().flat_map(Site::cells))
    }
}

impl Site {
    async fn start(site: &str, relay: &Cell) -> Result<Self, Failure> {
        let url = relay.listening()[0].clone();
        let own = relay.name().child(site).expect("a site's name is a valid part");
        let cell = builder(&own).dial(url.clone()).start().await?;
        cell.handle(ASK, ANY, |request: Request| async move {
            Ok::<_, HandlerError>(Message::new(hops(&request.message.headers)))
        });
        cell.handle(BLOB, ANY, |request: Request| async move {
            Ok::<_, HandlerError>(Message::new(request.message.payload))
        });
        cell.connected().await;
        let pipe = Link::start(site, &Place::new(relay.name().clone(), url)).await?;
        Ok(Self { cell, pipe })
    }

    /// The site's cell and those of its pipe.
    fn cells(&self) -> impl Iterator<Item = &Cell> {
        std::iter::once(&self.cell).chain(&self.pipe.cells)
    }
}

/// Both sides of a pipe: the passive one asks, the active one answers.
#[derive(Debug)]
pub(super) struct Link {
    asking: Arc<Asking>,
    pipes: [Arc<CellPipe>; 2],
    cells: [Cell; 2],
    answering: JoinHandle<()>,
    sent: AtomicUsize,
    delivered: Arc<AtomicUsize>,
}

impl Link {
    async fn start(site: &str, place: &Place) -> Result<Self, Failure> {
        let (passive, passive_cell) = open(Mode::Passive, site, place).await?;
        let (active, active_cell) = open(Mode::Active, site, place).await?;
        let delivered = Arc::new(AtomicUsize::new(0));
        let answering = tokio::spawn(answer_all(handler(&active)?, delivered.clone()));
        Ok(Self {
            asking: Arc::new(Asking { handler: handler(&passive)? }),
            pipes: [passive, active],
            cells: [passive_cell, active_cell],
            answering,
            sent: AtomicUsize::new(0),
            delivered,
        })
    }

    /// Sends a payload to the other side; gives what came back.
    pub(super) async fn exchange(&self, payload: &Bytes) -> Result<Payload, Failure> {
        self.begin_exchange(payload).await.expect("an exchange does not panic")
    }

    /// [`exchange`](Self::exchange) in a task of its own.
    pub(super) fn begin_exchange(&self, payload: &Bytes) -> JoinHandle<Result<Payload, Failure>> {
        self.sent.fetch_add(1, Relaxed);
        let (asking, payload) = (self.asking.clone(), payload.clone());
        tokio::spawn(async move { asking.exchange(payload).await })
    }

    async fn stop(self) {
        self.asking.handler.notify_end(Payload::None).await;
        self.asking.handler.stop().await;
        self.answering.abort();
        // It was aborted or has ended: both are what is wanted.
        let _ = self.answering.await;
        for pipe in self.pipes {
            pipe.close().await;
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ⇄ {}", self.pipes[0].fqcn(), self.pipes[0].peer())
    }
}

/// The side that asks.
#[derive(Debug)]
struct Asking {
    handler: PipeHandler,
}

impl Asking {
    async fn exchange(&self, payload: Bytes) -> Result<Payload, Failure> {
        let topic = "train".parse().expect("letters make a topic");
        let message = PipeMessage::new_request(topic, payload);
        let outcome = self.handler.send_to_peer(&message, Some(TRY), None).await;
        let outcome = outcome.map_err(|error| Failure::new(Status::Failed, chain(&error)))?;
        if !outcome.is_taken() {
            return Err(Failure::new(
                Status::Unreachable,
                format!("a pipe did not deliver: {}", chain(&outcome)),
            ));
        }
        loop {
            match self.handler.next().await {
                Some(PipeEvent::Message(reply)) if reply.req_id.as_ref() == Some(&message.msg_id) => {
                    return Ok(reply.data);
                }
                Some(PipeEvent::Message(_)) => {}
                other => {
                    return Err(Failure::new(Status::PeerGone, format!("a pipe ended too early: {other:?}")));
                }
            }
        }
    }
}

/// Answers every request with its own data.
async fn answer_all(handler: PipeHandler, delivered: Arc<AtomicUsize>) {
    while let Some(event) = handler.next().await {
        let PipeEvent::Message(message) = event else { continue };
        if message.msg_type != MessageType::Request {
            continue;
        }
        delivered.fetch_add(1, Relaxed);
        let reply = PipeMessage::new_reply(&message, message.data.clone());
        if let Err(error) = handler.send_to_peer(&reply, Some(TRY), None).await {
            tracing::warn!("an answer was not sent: {}", chain(&error));
        }
    }
}

/// Opens one side and waits until its cell is connected.
async fn open(mode: Mode, site: &str, place: &Place) -> Result<(Arc<CellPipe>, Cell), Failure> {
    let pipe = CellPipe::builder(mode, site, "demo", place.clone())
        .cell(|cell| patient(cellnet::drivers(cell)))
        .build();
    let failed = |error: &dyn std::error::Error| Failure::new(Status::Failed, chain(error));
    let pipe = pipe.map_err(|error| failed(&error))?;
    pipe.open("task").await.map_err(|error| failed(&error))?;
    let cell = pipe.cell().expect("the pipe is open");
    cell.connected().await;
    Ok((Arc::new(pipe), cell))
}

/// A handler that sends until it is taken; the steps of the demo have deadlines.
fn handler(pipe: &Arc<CellPipe>) -> Result<PipeHandler, Failure> {
    let mut config = HandlerConfig::default();
    config.resend_interval = Some(Duration::from_millis(200));
    config.max_resends = None;
    let handler = PipeHandler::new(pipe.clone(), config);
    let handler = handler.map_err(|error| Failure::new(Status::Failed, chain(&error)))?;
    handler.start();
    Ok(handler)
}

/// How long one try of a message may make no progress.
const TRY: Duration = Duration::from_secs(5);

fn builder(name: &Fqcn) -> CellBuilder {
    patient(cellnet::builder(name.clone()))
}

/// Dials again soon, so that the demo is short.
fn patient(builder: CellBuilder) -> CellBuilder {
    builder.configure(|config| {
        config.link.redial_min = Duration::from_millis(100);
        config.link.redial_max = Duration::from_millis(500);
    })
}

fn any_port() -> CellUrl {
    "tcp://127.0.0.1:0".parse().expect("a valid URL")
}

fn name(text: &'static str) -> Fqcn {
    text.parse().expect("a valid name")
}

/// The cells that handled a message, in order.
pub(super) fn hops(headers: &Headers) -> String {
    let route = headers.get(cn::ROUTE).and_then(Value::as_array).unwrap_or_default();
    let names = route.iter().filter_map(|hop| hop.as_array()?.first()?.as_str());
    names.collect::<Vec<_>>().join(" → ")
}

async fn wait_for(events: &mut Events, wanted: impl Fn(&CellEvent) -> bool) -> Result<(), Failure> {
    loop {
        match events.next().await {
            Some(event) if wanted(&event) => return Ok(()),
            Some(_) => {}
            None => return Err(Failure::new(Status::Failed, "a cell ended too early")),
        }
    }
}
