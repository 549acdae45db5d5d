//! A line of cells from the server down to a site, each leg of which is a transport, and a second site beside the first.

use std::{
    net::{TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::Duration,
};

use cellnet::{
    Cell, CellBuilder, CellEvent, CellUrl, Events, Fqcn, SHUTDOWN,
    pipe::{CellPipe, Mode, Place},
    tls::{CredentialFiles, Tls},
    wire::{Headers, Value, keys::cn},
};
use cellnet_core::testkit::pki::Pki;

/// Cells that run.
#[derive(Debug)]
pub(crate) struct Network {
    authority: Authority,
    /// From the server down to `site-1`.
    line: Vec<Member>,
    /// `site-2`, a neighbour of the same cell as `site-1`.
    beside: Member,
    /// From the server down.
    legs: Vec<&'static str>,
}

/// A cell and how to start it again.
#[derive(Debug)]
struct Member {
    cell: Cell,
    plan: Plan,
}

/// How to start a cell.
#[derive(Debug, Clone)]
struct Plan {
    name: Fqcn,
    listen: Vec<CellUrl>,
    dial: Option<CellUrl>,
}

impl Network {
    /// Starts the cells for these legs, from the server down, and waits until all are linked.
    pub(crate) async fn start(legs: &[&'static str]) -> Self {
        let authority = Authority::default();
        let mut name = Fqcn::server();
        let mut line: Vec<Member> = Vec::new();
        for (at, leg) in legs.iter().enumerate() {
            let dial = line.last().map(|above| above.plan.listen[0].clone());
            let mut listen = vec![any_url(leg)];
            if at + 1 == legs.len() && leg != &legs[0] {
                // The last one takes pipes by two transports.
                listen.push(any_url(legs[0]));
            }
            line.push(Member::start(Plan { name: name.clone(), listen, dial }, &authority).await);
            name = below(&name, &format!("relay-{}", at + 1));
        }
        let last = line.last().expect("a network has a leg").plan.clone();
        let site = |site| Plan {
            name: below(&last.name, site),
            listen: Vec::new(),
            dial: Some(last.listen[0].clone()),
        };
        line.push(Member::start(site("site-1"), &authority).await);
        let beside = Member::start(site("site-2"), &authority).await;
        let network = Self { authority, line, beside, legs: legs.to_vec() };
        network.check_legs();
        network
    }

    /// Every cell has dialled the one above by the transport of that leg, as the cells tell it.
    pub(crate) fn check_legs(&self) {
        let pairs = self.line.iter().zip(&self.line[1..]).zip(&self.legs);
        for ((above, below), leg) in pairs {
            let dialled = below.cell.dialled();
            let [(peer, url)] = &dialled[..] else { panic!("{} dialled {dialled:?}", below.plan.name) };
            assert_eq!((peer, url.scheme().as_str()), (&above.plan.name, *leg), "from {}", below.plan.name);
        }
    }

    /// The server.
    pub(crate) fn server(&self) -> &Cell {
        &self.line[0].cell
    }

    /// The site at the end.
    pub(crate) fn site(&self) -> &Cell {
        &self.line.last().expect("a line has ends").cell
    }

    /// Every cell, each after the one that it dialled.
    pub(crate) fn cells(&self) -> Vec<Cell> {
        self.line.iter().chain([&self.beside]).map(|member| member.cell.clone()).collect()
    }

    /// The ends of the line, each as the first.
    pub(crate) fn both_ways(&self) -> [(Cell, Cell); 2] {
        let (site, server) = (self.site().clone(), self.server().clone());
        [(site.clone(), server.clone()), (server, site)]
    }

    /// The cells that a message between the ends of the line passes, both ends included.
    pub(crate) fn way(&self, from: &Cell) -> Vec<String> {
        let down = self.line.iter().map(|member| member.plan.name.to_string());
        if from.name().is_server() { down.collect() } else { down.rev().collect() }
    }

    /// One side of a pipe of `site-1`, not yet open. Both attach to the cell above the sites, the active one by the last
    /// leg's transport and the passive one by the first leg's.
    pub(crate) fn pipe(&self, mode: Mode) -> CellPipe {
        let above = &self.line[self.line.len() - 2].plan;
        let url = match mode {
            Mode::Active => above.listen.first(),
            Mode::Passive => above.listen.last(),
        };
        let place = Place::new(above.name.clone(), url.expect("it listens").clone());
        let tls = self.authority.vouch("site-1");
        let pipe = CellPipe::builder(mode, "site-1", "job-7", place);
        pipe.cell(move |cell| cellnet::drivers(eager(cell)).tls(tls.clone())).build().expect("valid names")
    }

    /// Where pipes attach: what a message of one passes.
    pub(crate) fn pipe_hub(&self) -> &Fqcn {
        &self.line[self.line.len() - 2].plan.name
    }

    /// Kills the first relay, or the server if there is none: it says no bye. Its neighbours know on return.
    pub(crate) async fn kill_first_hub(&self) -> Cell {
        let hub = &self.first_hub().cell;
        let mut watched: Vec<Events> = self.around(hub).iter().map(Cell::events).collect();
        hub.cancel();
        hub.shutdown(Duration::ZERO).await;
        for events in &mut watched {
            disconnected(events, hub.name()).await;
        }
        hub.clone()
    }

    /// Starts what [`kill_first_hub`](Self::kill_first_hub) ended where it was, and waits until its neighbours are back.
    pub(crate) async fn restart_first_hub(&mut self) {
        let plan = self.first_hub().plan.clone();
        let around = self.around(&self.first_hub().cell);
        let mut watched: Vec<Events> = around.iter().map(Cell::events).collect();
        let hub = Member::start(plan, &self.authority).await;
        for events in &mut watched {
            connected(events, &hub.plan.name).await;
        }
        let at = usize::from(self.legs.len() > 1);
        self.line[at] = hub;
        for cell in self.cells() {
            cell.connected().await;
        }
    }

    fn first_hub(&self) -> &Member {
        &self.line[usize::from(self.legs.len() > 1)]
    }

    /// The neighbours that a cell has or had.
    pub(crate) fn around(&self, cell: &Cell) -> Vec<Cell> {
        let hub = &self.line[self.line.len() - 2];
        let pairs = self.line.windows(2).map(|pair| (&pair[0], &pair[1])).chain([(hub, &self.beside)]);
        let both = pairs.flat_map(|(above, below)| [(above, below), (below, above)]);
        let of_cell = both.filter(|(one, _)| one.plan.name == *cell.name());
        of_cell.map(|(_, other)| other.cell.clone()).collect()
    }

    /// Ends every cell in order, those that dialled first.
    pub(crate) async fn stop(&self) {
        for cell in self.cells().iter().rev() {
            cell.shutdown(SHUTDOWN).await;
        }
    }
}

impl Member {
    async fn start(plan: Plan, authority: &Authority) -> Self {
        let cn = plan.name.parts().next_back().expect("a name has a last part");
        let mut cell = eager(cellnet::builder(plan.name.clone())).tls(authority.vouch(cn));
        for url in &plan.listen {
            cell = cell.listen(url.clone());
        }
        let cell = cell.dial_any(plan.dial.clone()).start().await.expect("the cell starts");
        cell.connected().await;
        Self { cell, plan }
    }
}

/// Who vouches for the names of one network.
#[derive(Debug, Default)]
struct Authority(Pki);

impl Authority {
    /// Credentials for secure schemes; the others stay in the clear.
    fn vouch(&self, cn: &str) -> Tls {
        Tls::load(CredentialFiles::in_dir(self.0.kit(cn))).expect("a kit can be loaded")
    }
}

/// Waits for a neighbour to go; says why it went.
pub(crate) async fn disconnected(events: &mut Events, who: &Fqcn) -> String {
    loop {
        match events.next().await.expect("the cell runs") {
            CellEvent::Disconnected { peer, reason } if peer == *who => return reason.to_string(),
            _ => {}
        }
    }
}

async fn connected(events: &mut Events, who: &Fqcn) {
    let back = |event| matches!(event, CellEvent::Connected { peer, .. } if peer == *who);
    while !back(events.next().await.expect("the cell runs")) {}
}

/// The cells that a message has passed.
pub(crate) fn hops(headers: &Headers) -> Vec<String> {
    let route = headers.get(cn::ROUTE);
    let route = route.as_ref().and_then(Value::as_array).unwrap_or_default();
    route.iter().filter_map(|hop| Some(hop.as_array()?.first()?.as_str()?.to_owned())).collect()
}

/// Dials again soon.
fn eager(cell: CellBuilder) -> CellBuilder {
    cell.configure(|config| {
        config.link.redial_min = Duration::from_millis(10);
        config.link.redial_max = Duration::from_millis(100);
    })
}

fn below(name: &Fqcn, part: &str) -> Fqcn {
    if name.is_server() { part.parse() } else { name.child(part) }.expect("a valid name")
}

/// A URL of its own for each listener, so that a cell can come back where it was. The system gives these ports to nobody
/// who does not ask for them.
fn any_url(scheme: &str) -> CellUrl {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(process::id() % 20).expect("below 20") * 1000;
    loop {
        let port = first + NEXT.fetch_add(1, Relaxed) % 1000;
        let free =
            TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if free {
            return format!("{scheme}://127.0.0.1:{port}").parse().expect("a valid URL");
        }
    }
}
