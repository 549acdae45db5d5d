//! ZeroMQ, as one of the processes of the bench `peers`.

#[path = "../../benches/peers/child/mod.rs"]
mod child;
mod zeromq;

use child::Role;

fn main() {
    child::end_in_time();
    match Role::of_this_process() {
        Some(Role::Serve { side, router: None }) if side == NAME => zeromq::serve(),
        Some(Role::Run { side, address, job }) if side == NAME => child::done(&zeromq::run(&address, &job)),
        Some(Role::Serve { side, router: other } | Role::Relay { side, server: other }) => {
            panic!("{side} does not serve, by {other:?}")
        }
        Some(Role::Run { side, .. }) => panic!("nobody is called {side}"),
        None => println!("`cargo bench -p cellnet-benches --features peers --bench peers` runs this"),
    }
}

const NAME: &str = "ZeroMQ";
