//! ZeroMQ and NATS, as processes of the bench `peers`.

#[path = "../../benches/peers/child/mod.rs"]
mod child;
mod nats;
mod zeromq;

use child::Role;

fn main() {
    child::end_in_time();
    match Role::of_this_process() {
        Some(Role::Serve { side, router }) => match (side.as_str(), router) {
            (ZEROMQ, None) => zeromq::serve(),
            (NATS, Some(server)) => nats::serve(&server),
            (side, other) => panic!("{side} does not serve, by {other:?}"),
        },
        Some(Role::Run { side, address, job }) => child::done(&match side.as_str() {
            ZEROMQ => zeromq::run(&address, &job),
            NATS => nats::run(&address, &job),
            side => panic!("nobody is called {side}"),
        }),
        Some(Role::Relay { side, server }) => panic!("{side} does not relay, to {server:?}"),
        None => println!("`cargo bench -p cellnet-benches --features peers --bench peers` runs this"),
    }
}

const ZEROMQ: &str = "ZeroMQ";
const NATS: &str = "NATS";
