//! The peers that are Rust libraries: what they do when this bench is started again as one of their processes.

mod callers;
mod grpc;
mod tokio;
mod zenoh;

use crate::child::{self, Role};

/// Does what this process is for.
pub(crate) fn play(role: Role) -> ! {
    child::end_in_time();
    match role {
        Role::Serve { side, router } => match side.as_str() {
            "tokio" => tokio::serve(),
            "tonic" => grpc::serve(),
            "zenoh" => zenoh::serve(router.as_deref()),
            side => panic!("nobody is called {side}"),
        },
        Role::Relay { side, server } => match (side.as_str(), server) {
            ("tokio", Some(server)) => tokio::relay(server),
            ("zenoh", None) => zenoh::relay(),
            (side, _) => panic!("{side} does not relay so"),
        },
        Role::Run { side, address, job } => child::done(&match side.as_str() {
            "tokio" => tokio::run(&address, &job),
            "tonic" => grpc::run(&address, &job),
            "zenoh" => zenoh::run(&address, &job),
            side => panic!("nobody is called {side}"),
        }),
    }
}
