//! Which handlers run, and what waits for them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use tokio::{sync::Notify, time::Instant};

/// Work for a handler, ready to run.
pub(crate) struct Job {
    pub(crate) run: BoxFuture<'static, ()>,
    /// Bytes that wait with it.
    pub(crate) cost: usize,
}

/// Lets a bounded number of handlers run, and a bounded queue per neighbour wait for them. Neighbours take turns.
#[derive(Debug)]
pub(crate) struct Intake {
    state: Mutex<State>,
    running: usize,
    messages: usize,
    bytes: usize,
}

#[derive(Debug)]
struct State {
    running: usize,
    queues: HashMap<u64, Queue>,
    /// Links whose queue is not empty, next one first.
    turns: VecDeque<u64>,
    progress: Instant,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    bytes: usize,
    waiting: Vec<Arc<Notify>>,
}

/// What became of an offered job.
pub(crate) enum Offered {
    /// The caller runs it now, and then what [`Intake::next`] gives.
    Run(Job),
    /// It waits.
    Queued,
}

impl Intake {
    pub(crate) fn new(running: usize, messages: usize, bytes: usize) -> Self {
        let state =
            State { running: 0, queues: HashMap::new(), turns: VecDeque::new(), progress: Instant::now() };
        Self { state: Mutex::new(state), running: running.max(1), messages, bytes }
    }

    /// Whether a job of `cost` bytes that came by `link` may run or wait. If not, `waiter` is told once it may.
    pub(crate) fn has_room(&self, link: u64, cost: usize, waiter: &Arc<Notify>) -> bool {
        let mut state = self.state();
        if state.running < self.running {
            return true;
        }
        let Some(queue) = state.queues.get_mut(&link) else { return true };
        if queue.jobs.len() < self.messages && queue.bytes + cost <= self.bytes {
            return true;
        }
        if !queue.waiting.iter().any(|known| Arc::ptr_eq(known, waiter)) {
            queue.waiting.push(waiter.clone());
        }
        false
    }

    /// Takes a job that [`has_room`](Self::has_room).
    pub(crate) fn offer(&self, link: u64, job: Job) -> Offered {
        let mut state = self.state();
        if state.running < self.running {
            state.running += 1;
            return Offered::Run(job);
        }
        let queue = state.queues.entry(link).or_default();
        queue.bytes += job.cost;
        queue.jobs.push_back(job);
        if queue.jobs.len() == 1 {
            state.turns.push_back(link);
        }
        Offered::Queued
    }

    /// The next job for a handler that has finished one; `None` ends it.
    pub(crate) fn next(&self) -> Option<Job> {
        let mut state = self.state();
        state.progress = Instant::now();
        let Some(link) = state.turns.pop_front() else {
            state.running -= 1;
            return None;
        };
        let queue = state.queues.get_mut(&link).expect("a link whose turn it is has a queue");
        let job = queue.jobs.pop_front().expect("a link whose turn it is has a job");
        queue.bytes -= job.cost;
        if queue.jobs.len() <= self.messages / 2 && queue.bytes <= self.bytes / 2 {
            queue.waiting.drain(..).for_each(|waiter| waiter.notify_one());
        }
        if queue.jobs.is_empty() {
            state.queues.remove(&link);
        } else {
            state.turns.push_back(link);
        }
        Some(job)
    }

    /// When a handler last finished.
    pub(crate) fn progress(&self) -> Instant {
        self.state().progress
    }

    /// Handlers that run, and messages that wait.
    #[cfg(test)]
    fn load(&self) -> (usize, usize) {
        let state = self.state();
        (state.running, state.queues.values().map(|queue| queue.jobs.len()).sum())
    }

    /// Forgets what waits.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.turns.clear();
        let queues = std::mem::take(&mut state.queues);
        drop(state);
        // Jobs may do things when they are dropped.
        drop(queues);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("cost", &self.cost).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(cost: usize) -> Job {
        Job { run: Box::pin(async {}), cost }
    }

    #[tokio::test(start_paused = true)]
    async fn neighbours_take_turns_and_queues_are_bounded() {
        let (intake, room) = (Intake::new(1, 2, 100), Arc::default());
        assert!(matches!(intake.offer(1, job(1)), Offered::Run(_)));
        assert!(matches!(intake.offer(1, job(11)), Offered::Queued));
        assert!(intake.has_room(1, 12, &room));
        assert!(matches!(intake.offer(1, job(12)), Offered::Queued));
        assert!(!intake.has_room(1, 1, &room));
        assert!(intake.has_room(2, 1, &room));
        assert!(matches!(intake.offer(2, job(21)), Offered::Queued));
        let order: Vec<_> = std::iter::from_fn(|| intake.next()).map(|job| job.cost).collect();
        assert_eq!(order, [11, 21, 12]);
        assert_eq!(intake.load(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_found_no_room_is_told() {
        let (intake, room) = (Intake::new(1, 1, 100), Arc::default());
        intake.offer(1, job(1));
        intake.offer(1, job(1));
        assert!(!intake.has_room(1, 1, &room));
        assert!(intake.next().is_some());
        room.notified().await;
    }
}
