//! The cells of the demo and their pipes.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cellnet::{
    ANY, Cell, CellBuilder, CellEvent, CellUrl, Events, Fqcn, HandlerError, Message, Payload, Request,
    SHUTDOWN, StartError,
    pipe::{CellPipe, HandlerConfig, MessageType, Mode, Pipe, PipeEvent, PipeHandler, PipeMessage, Place},
    transport::TransportError,
    wire::{Headers, Value, keys::cn},
};
use tokio::task::JoinHandle;

use super::{
    legs::{self, Leg, way_up},
    pki::{Authority, Kit},
};
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
    /// None while it is dead.
    relay: Option<Cell>,
    /// Where it listens, for each leg below it.
    relay_urls: Vec<CellUrl>,
    relay_kit: Kit,
    pub(super) sites: Vec<Site>,
    /// Keeps the credentials.
    _authority: Authority,
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
        let authority = Authority::new()?;
        let server = builder(&Fqcn::server(), &authority.issue("server")?);
        let server = legs::of_server().fold(server, CellBuilder::listen).start().await?;
        let relay_kit = authority.issue(RELAY)?;
        let mut relay = builder(&name(RELAY), &relay_kit).dial(legs::RELAY.choose(&server)?);
        let below = [("site-1", legs::SITE_1), ("site-2", legs::SITE_2)];
        let mut listen = Vec::new();
        for (_, leg) in below {
            let url = leg.any_port()?;
            if !listen.contains(&url) {
                listen.push(url.clone());
                relay = relay.listen(url);
            }
        }
        let relay = relay.start().await?;
        relay.connected().await;
        let mut sites = Vec::new();
        for (site, leg) in below {
            sites.push(Site::start(site, leg, &relay, authority.issue(site)?).await?);
        }
        let relay_urls = relay.listening().to_vec();
        Ok(Self { server, relay: Some(relay), relay_urls, relay_kit, sites, _authority: authority })
    }

    /// By which transport each cell reached the one above it.
    pub(super) fn transports(&self) -> Vec<(String, String)> {
        let cells = self.relay.iter().chain(self.sites.iter().map(|site| &site.cell));
        cells.map(|cell| (cell.name().to_string(), way_up(cell))).collect()
    }

    /// How a message travels from the server to a site.
    pub(super) fn way_to(&self, site: &Fqcn) -> String {
        let ways = self.transports();
        let ways = ways.iter().filter(|(name, _)| name == RELAY || name == site.as_str());
        ways.map(|(_, way)| way.as_str()).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn relay_urls(&self) -> String {
        self.relay_urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    }

    pub(super) fn site_names(&self) -> Vec<Fqcn> {
        self.sites.iter().map(|site| site.cell.name().clone()).collect()
    }

    /// Who is linked to whom, as the cells see it now.
    pub(super) fn tree(&self) -> String {
        let listening: Vec<_> = self.server.listening().iter().map(ToString::to_string).collect();
        let way = |name: &str| {
            let found = self.transports().into_iter().find(|(cell, _)| cell == name);
            found.map_or_else(String::new, |(_, way)| format!("    by {way}"))
        };
        let mut text = format!("server    listens on {}\n", listening.join(" "));
        text += &format!("└── {RELAY}{}    listens on {}\n", way(RELAY), self.relay_urls());
        let relayed = self.relay.as_ref().map(Cell::neighbours).unwrap_or_default();
        let mut below: Vec<_> = relayed.into_iter().filter(|name| !name.is_server()).collect();
        below.sort();
        let last = below.len().saturating_sub(1);
        for (at, name) in below.iter().enumerate() {
            let branch = if at == last { "└──" } else { "├──" };
            let site = self.sites.iter().find(|site| site.cell.name() == name);
            let way = match site {
                Some(site) => format!("    by {}", way_up(&site.cell)),
                None => self.pipe_way(name),
            };
            text += &format!("    {branch} {name}{way}\n");
        }
        text
    }

    /// How the cell of a pipe reached the relay.
    fn pipe_way(&self, name: &Fqcn) -> String {
        let mut cells = self.sites.iter().flat_map(|site| &site.pipe.cells);
        let cell = cells.find(|cell| cell.name() == name);
        cell.map_or_else(String::new, |cell| format!("    by {}", way_up(cell)))
    }

    /// Ends the relay at once: it says no bye, and what it has in its queues is lost. Waits until all its neighbours
    /// know.
    pub(super) async fn kill_relay(&mut self) -> Result<(), Failure> {
        let events: Vec<Events> = self.around_relay().map(Cell::events).collect();
        // Nobody else has a clone of it.
        drop(self.relay.take());
        for mut events in events {
            let gone = |event: &CellEvent| matches!(event, CellEvent::Disconnected { peer, .. } if peer.as_str() == RELAY);
            wait_for(&mut events, gone).await?;
        }
        Ok(())
    }

    /// Starts the relay where it was and waits until all its neighbours are back.
    pub(super) async fn restart_relay(&mut self) -> Result<(), Failure> {
        let mut events = self.server.events();
        self.relay = Some(loop {
            let relay = builder(&name(RELAY), &self.relay_kit).dial(legs::RELAY.choose(&self.server)?);
            match self.relay_urls.iter().cloned().fold(relay, CellBuilder::listen).start().await {
                // The dead one may still be giving its port back.
                Err(StartError::Listen { source: TransportError::Io { source, .. }, .. })
                    if source.kind() == io::ErrorKind::AddrInUse =>
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                started => break started?,
            }
        });
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

    /// Every message was delivered exactly once, although some were sent several times.
    pub(super) fn check_delivered(&self) -> Result<String, Failure> {
        for Site { pipe, .. } in &self.sites {
            let (mut sent, mut delivered) = (pipe.sent.all(), pipe.delivered.all());
            sent.sort();
            delivered.sort();
            if sent != delivered {
                let text = format!("{pipe}: the messages {sent:?} were sent and {delivered:?} delivered");
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
        if let Some(relay) = self.relay {
            relay.shutdown(SHUTDOWN).await;
        }
        self.server.shutdown(SHUTDOWN).await;
    }

    /// The cells that have a link to the relay.
    fn around_relay(&self) -> impl Iterator<Item = &Cell> {
        std::iter::once(&self.server).chain(self.sites.iter().flat_map(Site::cells))
    }
}

impl Site {
    async fn start(site: &str, leg: Leg, relay: &Cell, kit: Kit) -> Result<Self, Failure> {
        let url = leg.choose(relay)?;
        let own = relay.name().child(site).expect("a site's name is a valid part");
        let cell = builder(&own, &kit).dial(url.clone()).start().await?;
        cell.handle(ASK, ANY, |request: Request| async move {
            Ok::<_, HandlerError>(Message::new(hops(&request.message.headers)))
        });
        cell.handle(BLOB, ANY, |request: Request| async move {
            Ok::<_, HandlerError>(Message::new(request.message.payload))
        });
        cell.connected().await;
        let pipe = Link::start(site, &Place::new(relay.name().clone(), url), &kit).await?;
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
    sent: Ids,
    delivered: Ids,
}

/// Ids of messages, in the order in which they were noted. Clones are the same list.
#[derive(Debug, Clone, Default)]
struct Ids(Arc<Mutex<Vec<String>>>);

impl Ids {
    fn note(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(id.to_owned());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What came of an exchange.
#[derive(Debug)]
pub(super) struct Exchanged {
    pub(super) back: Payload,
    /// From the first try to the answer.
    pub(super) took: Duration,
    /// How often the message was sent until the other side took it.
    pub(super) tries: usize,
}

impl Link {
    async fn start(site: &str, place: &Place, kit: &Kit) -> Result<Self, Failure> {
        let (passive, passive_cell) = open(Mode::Passive, site, place, kit).await?;
        let (active, active_cell) = open(Mode::Active, site, place, kit).await?;
        let (sent, delivered) = (Ids::default(), Ids::default());
        let answering = tokio::spawn(answer_all(handler(&active)?, delivered.clone()));
        Ok(Self {
            asking: Arc::new(Asking { handler: handler(&passive)? }),
            pipes: [passive, active],
            cells: [passive_cell, active_cell],
            answering,
            sent,
            delivered,
        })
    }

    /// Sends a payload to the other side; gives what came back.
    pub(super) async fn exchange(&self, payload: &Bytes) -> Result<Exchanged, Failure> {
        self.begin_exchange(payload).await.expect("an exchange does not panic")
    }

    /// [`exchange`](Self::exchange) in a task of its own.
    pub(super) fn begin_exchange(&self, payload: &Bytes) -> JoinHandle<Result<Exchanged, Failure>> {
        let message =
            PipeMessage::new_request("train".parse().expect("letters make a topic"), payload.clone());
        self.sent.note(&message.msg_id);
        let asking = self.asking.clone();
        tokio::spawn(async move { asking.exchange(message).await })
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
    /// The deadline is that of the step.
    async fn exchange(&self, message: PipeMessage) -> Result<Exchanged, Failure> {
        let began = Instant::now();
        let mut tries = 1;
        loop {
            // Without a time-out for each try the handler sends once.
            let outcome = self.handler.send_to_peer(&message, None, None).await;
            let outcome = outcome.map_err(|error| Failure::new(Status::Failed, chain(&error)))?;
            if outcome.is_taken() {
                break;
            }
            tracing::debug!(tries, "a try of a pipe failed: {}", chain(&outcome));
            tokio::time::sleep(RESEND).await;
            tries += 1;
        }
        loop {
            match self.handler.next().await {
                Some(PipeEvent::Message(reply)) if reply.req_id.as_ref() == Some(&message.msg_id) => {
                    return Ok(Exchanged { back: reply.data, took: began.elapsed(), tries });
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
async fn answer_all(handler: PipeHandler, delivered: Ids) {
    while let Some(event) = handler.next().await {
        let PipeEvent::Message(message) = event else { continue };
        if message.msg_type != MessageType::Request {
            continue;
        }
        delivered.note(&message.msg_id);
        let reply = PipeMessage::new_reply(&message, message.data.clone());
        if let Err(error) = handler.send_to_peer(&reply, Some(TRY), None).await {
            tracing::warn!("an answer was not sent: {}", chain(&error));
        }
    }
}

/// Opens one side and waits until its cell is connected.
async fn open(mode: Mode, site: &str, place: &Place, kit: &Kit) -> Result<(Arc<CellPipe>, Cell), Failure> {
    let kit = kit.clone();
    let pipe = CellPipe::builder(mode, site, "demo", place.clone())
        .cell(move |cell| patient(kit.give(cellnet::drivers(cell))))
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
    config.resend_interval = Some(RESEND);
    config.default_request_timeout = TRY;
    config.max_resends = None;
    let handler = PipeHandler::new(pipe.clone(), config);
    let handler = handler.map_err(|error| Failure::new(Status::Failed, chain(&error)))?;
    handler.start();
    Ok(handler)
}

/// Between two tries of a message.
const RESEND: Duration = Duration::from_millis(200);
/// How long one try of a message may make no progress.
const TRY: Duration = Duration::from_secs(5);

fn builder(name: &Fqcn, kit: &Kit) -> CellBuilder {
    patient(kit.give(cellnet::builder(name.clone())))
}

/// Dials again soon, so that the demo is short.
fn patient(builder: CellBuilder) -> CellBuilder {
    builder.configure(|config| {
        config.link.redial_min = Duration::from_millis(100);
        config.link.redial_max = Duration::from_millis(500);
    })
}

fn name(text: &'static str) -> Fqcn {
    text.parse().expect("a valid name")
}

/// The cells that handled a message, in order.
pub(super) fn hops(headers: &Headers) -> String {
    let route = headers.get(cn::ROUTE);
    let route = route.as_ref().and_then(Value::as_array).unwrap_or_default();
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
