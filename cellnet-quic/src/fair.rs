//! Tasks of quinn that let others have their turn.

use std::{
    future::Future,
    io,
    net::UdpSocket,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{
            AtomicU8,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use futures_util::task::AtomicWaker;
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};

/// Tokio for quinn.
///
/// The task of a connection that has more to send than one of its turns allows wakes itself. Tokio runs such a task again
/// as long as it likes and looks at sockets every sixty turns only, so that a thread which sends a model does not notice
/// for milliseconds what has arrived. Here a task that wakes itself goes on after the sockets were looked at.
#[derive(Debug)]
pub(crate) struct Fair;

impl Runtime for Fair {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(Box::pin(Turns { future, bell: Arc::default() }));
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// A future that is polled again after others had a turn, if it asks for that while it is polled.
struct Turns<F> {
    future: F,
    bell: Arc<Bell>,
}

/// Wakes the task, or notes that it is to go on.
#[derive(Default)]
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

/// What a [`Bell`] knows of its task.
const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const RUNG: u8 = 2;

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self.state.fetch_update(AcqRel, Acquire, |state| (state != WAITING).then_some(RUNG));
        if noted.is_err() {
            self.task.wake();
        }
    }
}

impl<F: Future<Output = ()> + Unpin> Future for Turns<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.bell.task.register(cx.waker());
        self.bell.state.store(RUNNING, Release);
        let waker = Waker::from(self.bell.clone());
        let polled = Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker));
        let rung = self.bell.state.swap(WAITING, AcqRel) == RUNG;
        if polled.is_pending() && rung {
            // Polled once, it has the task woken after the sockets were looked at.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use tokio::sync::{Notify, oneshot};

    use super::*;

    fn turns(future: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send {
        Turns { future: Box::pin(future), bell: Arc::default() }
    }

    /// Waits much longer than anything here takes on any machine.
    async fn soon<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), what).await.expect("a wake was lost")
    }

    /// A future that wakes itself so many times.
    fn busy(mut times: usize, polls: Arc<AtomicUsize>) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            polls.fetch_add(1, SeqCst);
            if times == 0 {
                return Poll::Ready(());
            }
            times -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[tokio::test]
    async fn a_task_that_wakes_itself_is_polled_until_it_is_done() {
        let polls = Arc::new(AtomicUsize::new(0));
        soon(tokio::spawn(turns(busy(100, polls.clone())))).await.unwrap();
        assert_eq!(polls.load(SeqCst), 101);
    }

    #[tokio::test]
    async fn others_have_a_turn_between_two_of_its_own() {
        let polls = Arc::new(AtomicUsize::new(0));
        let busy = tokio::spawn(turns(busy(10, polls.clone())));
        for at_most in 1..=10 {
            tokio::task::yield_now().await;
            assert!(polls.load(SeqCst) <= at_most);
        }
        soon(busy).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_from_elsewhere_is_lost() {
        let (told, rounds) = (Arc::new(Notify::new()), 10_000);
        let (done, ended) = oneshot::channel();
        let waiter = told.clone();
        let back = Arc::new(Notify::new());
        let answer = back.clone();
        tokio::spawn(turns(async move {
            for _ in 0..rounds {
                waiter.notified().await;
                answer.notify_one();
            }
            done.send(()).unwrap();
        }));
        let all = async {
            for _ in 0..rounds {
                told.notify_one();
                back.notified().await;
            }
            ended.await.unwrap();
        };
        soon(all).await;
    }
}
