//! Those who ask again and again, by a library whose requests are futures.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::child::{Job, Tally};

/// Lets each of the callers ask until the time is over.
pub(super) async fn ask_all<C, F>(job: &Job, callers: impl Iterator<Item = C>) -> Value
where
    C: FnMut() -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let tally = Arc::new(Mutex::new(Tally::start(job)));
    let mut tasks = JoinSet::new();
    for mut ask in callers {
        let tally = tally.clone();
        tasks.spawn(async move {
            let mut goes_on = true;
            while goes_on {
                let began = Instant::now();
                ask().await;
                goes_on = tally.lock().expect("nobody panics with it").note(began);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("every request is answered");
    }
    tally.lock().expect("nobody panics with it").figures()
}
