//! Peers that mean harm, against a real server process: it refuses them and says why, stays small and serves the others.

/// Makes each test a test of each scheme, called `SCHEME::TEST`.
macro_rules! by_scheme {
    ([$($scheme:ident)*] $tests:tt) => {
        $(mod $scheme { by_scheme! { @tests $scheme $tests } })*
    };
    (@tests $scheme:ident [$($test:ident)*]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(stringify!($scheme)).await;
            }
        )*
    };
}

mod bystander;
mod identity;
mod quic;
mod raw;
mod tcp;
mod tls;
mod victim;
mod ws;

#[path = "../interop/process.rs"]
#[allow(dead_code)] // Shared with the interop tests, which use more of it.
mod process;

#[path = "../transfer/toll.rs"]
#[allow(dead_code)] // Shared with the tests of transfers, which use more of it.
mod toll;

use std::time::Duration;

use tokio::sync::Mutex;

const MIB: u64 = 1 << 20;

/// These tests measure memory and fill both cores, so they go one after the other.
static TURN: Mutex<()> = Mutex::const_new(());

/// Under a flood, answers may take longer on a machine that has other things to do, too.
const FLOODED: Duration = Duration::from_secs(5);

/// Waits for something that somebody else does soon, and only shows in a place that tells nobody.
async fn eventually(what: &str, holds: impl Fn() -> bool, instead: impl Fn() -> String) {
    let holding = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), holding).await.is_ok();
    assert!(in_time, "not seen: {what}, but:\n{}", instead());
}
