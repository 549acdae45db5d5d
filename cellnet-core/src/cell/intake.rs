//! Which handlers run, and what waits for them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use tokio::{sync::Notify, time::Instant};

use super::CellConfig;

/// Work for a handler, ready to run.
pub(crate) struct Job {
    pub(crate) run: BoxFuture<'static, ()>,
    /// Bytes that wait with it.
    pub(crate) cost: usize,
}

/// Lets a bounded number of handlers run, and a bounded queue per neighbour wait for them. Neighbours take turns.
///
/// A neighbour may have as many handlers running as are still free for others. So one whose handlers hang, because
/// it reads no replies for instance, holds half of them at most, a second one half of the rest, and there is always
/// one left.
#[derive(Debug)]
pub(crate) struct Intake {
    state: Mutex<State>,
    limits: Limits,
}

#[derive(Debug)]
struct Limits {
    running: usize,
    messages: usize,
    bytes: usize,
    all_bytes: usize,
}

#[derive(Debug)]
struct State {
    running: usize,
    /// Bytes that wait, of all neighbours.
    bytes: usize,
    neighbours: HashMap<u64, Neighbour>,
    /// Links whose queue is not empty, next one first.
    turns: VecDeque<u64>,
    /// Told when fewer bytes wait in all.
    crowd: Vec<Arc<Notify>>,
    progress: Instant,
}

/// What came by one link; there as long as something runs or waits.
#[derive(Debug, Default)]
struct Neighbour {
    running: usize,
    jobs: VecDeque<Job>,
    bytes: usize,
    /// Told when its queue has room.
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
    pub(crate) fn new(config: &CellConfig) -> Self {
        let state = State {
            running: 0,
            bytes: 0,
            neighbours: HashMap::new(),
            turns: VecDeque::new(),
            crowd: Vec::new(),
            progress: Instant::now(),
        };
        let limits = Limits {
            running: config.handlers.max(1),
            messages: config.waiting_messages,
            bytes: config.waiting_bytes,
            all_bytes: config.all_waiting_bytes,
        };
        Self { state: Mutex::new(state), limits }
    }

    /// Whether a job of `cost` bytes that came by `link` may run or wait. If not, `waiter` is told once it may.
    pub(crate) fn has_room(&self, link: u64, cost: usize, waiter: &Arc<Notify>) -> bool {
        let mut state = self.state();
        if state.may_run(link, &self.limits) {
            return true;
        }
        let crowded = state.bytes + cost > self.limits.all_bytes && state.bytes > 0;
        let waiters = if crowded {
            &mut state.crowd
        } else {
            let Some(neighbour) = state.neighbours.get_mut(&link) else { return true };
            let fits = neighbour.bytes + cost <= self.limits.bytes || neighbour.jobs.is_empty();
            if neighbour.jobs.len() < self.limits.messages && fits {
                return true;
            }
            &mut neighbour.waiting
        };
        if !waiters.iter().any(|known| Arc::ptr_eq(known, waiter)) {
            waiters.push(waiter.clone());
        }
        false
    }

    /// Takes a job that [`has_room`](Self::has_room).
    pub(crate) fn offer(&self, link: u64, job: Job) -> Offered {
        let mut state = self.state();
        let runs = state.may_run(link, &self.limits);
        let neighbour = state.neighbours.entry(link).or_default();
        if runs {
            neighbour.running += 1;
            state.running += 1;
            return Offered::Run(job);
        }
        let cost = job.cost;
        neighbour.bytes += cost;
        neighbour.jobs.push_back(job);
        let first = neighbour.jobs.len() == 1;
        state.bytes += cost;
        if first {
            state.turns.push_back(link);
        }
        Offered::Queued
    }

    /// The next job, and the link it came by, for a handler that has finished one of `link`; `None` ends it.
    pub(crate) fn next(&self, link: u64) -> Option<(u64, Job)> {
        let mut state = self.state();
        state.progress = Instant::now();
        state.running -= 1;
        if let Some(neighbour) = state.neighbours.get_mut(&link) {
            neighbour.running -= 1;
        }
        let next = state.take_turn(&self.limits);
        state.forget_if_idle(link);
        next
    }

    /// When a handler last finished.
    pub(crate) fn progress(&self) -> Instant {
        self.state().progress
    }

    /// Handlers that run, and messages that wait.
    #[cfg(test)]
    fn load(&self) -> (usize, usize) {
        let state = self.state();
        (state.running, state.neighbours.values().map(|neighbour| neighbour.jobs.len()).sum())
    }

    /// Forgets what waits.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.turns.clear();
        state.bytes = 0;
        let waiting = |neighbour: &mut Neighbour| {
            neighbour.bytes = 0;
            std::mem::take(&mut neighbour.jobs)
        };
        let jobs: Vec<_> = state.neighbours.values_mut().map(waiting).collect();
        drop(state);
        // Jobs may do things when they are dropped.
        drop(jobs);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn may_run(&self, link: u64, limits: &Limits) -> bool {
        let free = limits.running - self.running;
        free > 0 && self.neighbours.get(&link).map_or(0, |neighbour| neighbour.running) < free
    }

    /// The first waiting job whose neighbour may run one more.
    fn take_turn(&mut self, limits: &Limits) -> Option<(u64, Job)> {
        let at = self.turns.iter().position(|&link| self.may_run(link, limits))?;
        let link = self.turns.remove(at)?;
        let neighbour = self.neighbours.get_mut(&link)?;
        let job = neighbour.jobs.pop_front()?;
        neighbour.running += 1;
        neighbour.bytes -= job.cost;
        if neighbour.jobs.len() <= limits.messages / 2 && neighbour.bytes <= limits.bytes / 2 {
            neighbour.waiting.drain(..).for_each(|waiter| waiter.notify_one());
        }
        if !neighbour.jobs.is_empty() {
            self.turns.push_back(link);
        }
        self.running += 1;
        self.bytes -= job.cost;
        if self.bytes <= limits.all_bytes / 2 {
            self.crowd.drain(..).for_each(|waiter| waiter.notify_one());
        }
        Some((link, job))
    }

    fn forget_if_idle(&mut self, link: u64) {
        let idle = |neighbour: &Neighbour| neighbour.running == 0 && neighbour.jobs.is_empty();
        if self.neighbours.get(&link).is_some_and(idle) {
            let neighbour = self.neighbours.remove(&link);
            neighbour.iter().flat_map(|neighbour| &neighbour.waiting).for_each(|waiter| waiter.notify_one());
        }
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

    fn intake(handlers: usize, messages: usize) -> Intake {
        Intake::new(&CellConfig {
            handlers,
            waiting_messages: messages,
            waiting_bytes: 100,
            all_waiting_bytes: 150,
            ..CellConfig::default()
        })
    }

    /// The costs of the jobs as they come.
    fn drain(intake: &Intake, mut link: u64) -> Vec<usize> {
        std::iter::from_fn(|| {
            let (next, job) = intake.next(link)?;
            link = next;
            Some(job.cost)
        })
        .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn neighbours_take_turns_and_queues_are_bounded() {
        let (intake, room) = (intake(1, 2), Arc::default());
        assert!(matches!(intake.offer(1, job(1)), Offered::Run(_)));
        assert!(matches!(intake.offer(1, job(11)), Offered::Queued));
        assert!(intake.has_room(1, 12, &room));
        assert!(matches!(intake.offer(1, job(12)), Offered::Queued));
        assert!(!intake.has_room(1, 1, &room));
        assert!(intake.has_room(2, 1, &room));
        assert!(matches!(intake.offer(2, job(21)), Offered::Queued));
        assert_eq!(drain(&intake, 1), [11, 21, 12]);
        assert_eq!(intake.load(), (0, 0));
        assert!(intake.state().neighbours.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_neighbour_whose_handlers_hang_leaves_some_for_others() {
        let intake = intake(8, 100);
        for link in [1, 2, 3] {
            for _ in 0..20 {
                intake.offer(link, job(0));
            }
        }
        let running = |link| intake.state().neighbours.get(&link).map_or(0, |neighbour| neighbour.running);
        assert_eq!([running(1), running(2), running(3)], [4, 2, 1]);
        assert!(matches!(intake.offer(4, job(0)), Offered::Run(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_found_no_room_is_told() {
        let (intake, room) = (intake(1, 1), Arc::default());
        intake.offer(1, job(1));
        intake.offer(1, job(1));
        assert!(!intake.has_room(1, 1, &room));
        assert!(intake.next(1).is_some());
        room.notified().await;
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_all_neighbours_are_bounded_together() {
        let (intake, room) = (intake(1, 9), Arc::default());
        intake.offer(1, job(1));
        for link in [1, 2] {
            assert!(intake.has_room(link, 70, &room));
            intake.offer(link, job(70));
        }
        assert!(!intake.has_room(3, 70, &room));
        intake.next(1);
        room.notified().await;
        assert!(intake.has_room(3, 70, &room));
    }
}
