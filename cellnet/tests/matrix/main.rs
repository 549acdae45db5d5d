//! Everything that cells do, over every transport, in every shape of network: one table, one test for each of its cells.
//!
//! A test is called `TRANSPORT::SHAPE::VERB`. In `direct` and `one_relay` every leg is that transport; in `two_relays`
//! the first leg is, counted from the server, and the other two legs are the two that follow it in [`TRANSPORTS`].

mod asking;
mod bulk;
mod life;
mod network;
mod pipes;
mod seen;

use std::time::Duration;

use network::Network;

/// Neighbours in this ring carry the legs of one network.
const TRANSPORTS: [&str; 5] = ["tcp", "quic", "ws", "stcp", "wss"];

macro_rules! matrix {
    ($([$($transport:ident)*] $shapes:tt $verbs:tt)*) => {
        $($(mod $transport { matrix! { @shapes $transport $shapes $verbs } })*)*
    };
    (@shapes $transport:ident [$($shape:ident)*] $verbs:tt) => {
        $(mod $shape { matrix! { @verbs $transport $shape $verbs } })*
    };
    (@verbs $transport:ident $shape:ident [$($file:ident::$verb:ident)*]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $verb() {
                let legs = crate::$shape(stringify!($transport));
                crate::within_a_minute(crate::$file::$verb(crate::Network::start(&legs).await)).await;
            }
        )*
    };
}

matrix! {
    [tcp stcp ws wss quic]
    [direct one_relay two_relays]
    [
        asking::request
        asking::fire_and_forget
        asking::broadcast
        asking::deferred_reply
        bulk::blob_up
        bulk::blob_down
        bulk::byte_stream
        pipes::pipe
        life::bye
        life::reconnect
    ]
}

fn direct(transport: &'static str) -> Vec<&'static str> {
    vec![transport]
}

fn one_relay(transport: &'static str) -> Vec<&'static str> {
    vec![transport; 2]
}

fn two_relays(transport: &'static str) -> Vec<&'static str> {
    let first = TRANSPORTS.iter().position(|known| *known == transport).expect("a transport of the ring");
    TRANSPORTS.iter().cycle().skip(first).take(3).copied().collect()
}

/// Who hangs has failed.
async fn within_a_minute(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test ends within a minute");
}
