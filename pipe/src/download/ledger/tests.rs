//! The rules of transactions.

use cellnet_core::fobs::{Array, ArrayKind};

use super::*;
use crate::download::wire::items_state;

struct Case {
    ledger: Ledger,
    began: Instant,
    ref_id: ByteString,
    id: Uuid,
    status: watch::Receiver<Status>,
}

/// Two arrays under one reference.
fn case(offer: Offer) -> Case {
    case_with(offer, DownloadConfig::default())
}

fn case_with(offer: Offer, config: DownloadConfig) -> Case {
    let mut ledger = Ledger::new(Arc::new(config));
    let (began, ref_id) = (Instant::now(), ByteString::from_static("R1"));
    let (id, status) = ledger.open(began, offer, vec![(ref_id.clone(), content())]).unwrap();
    Case { ledger, began, ref_id, id, status }
}

fn content() -> Arc<Content> {
    let array = |name: &'static str| (ByteString::from_static(name), Array::from(vec![1.0; 4]));
    Arc::new(Content::Items { kind: ArrayKind::Numpy, items: vec![array("T0"), array("T1")] })
}

fn cell(name: &str) -> Fqcn {
    name.parse().unwrap()
}

impl Case {
    fn at(&self, seconds: u64) -> Instant {
        self.began + Duration::from_secs(seconds)
    }

    fn ask(&mut self, at: u64, name: &str, has: usize) -> Verdict {
        let state = (has > 0).then(|| items_state(0, has));
        self.ledger.ask(self.at(at), &cell(name), &self.ref_id.clone(), state.as_ref())
    }

    /// Asks, and sends what is due.
    fn pull(&mut self, at: u64, name: &str, has: usize) -> &'static str {
        let (ticket, sent, what) = match self.ask(at, name, has) {
            Verdict::Piece { ticket, .. } => (Some(ticket), Sent::Data(64), "piece"),
            Verdict::Eof(ticket) => (ticket, Sent::Eof, "eof"),
            Verdict::Error(ticket) => (ticket, Sent::Error, "error"),
            Verdict::Unknown => return "unknown",
            Verdict::Refused(_) => return "refused",
        };
        if let Some(ticket) = ticket {
            self.ledger.settle(self.at(at), &ticket, sent);
        }
        what
    }

    fn outcome(&self) -> Option<Outcome> {
        self.status.borrow().outcome
    }
}

#[test]
fn a_transaction_ends_when_all_have_pulled() {
    let mut case = case(Offer::to_each([cell("site-1"), cell("site-2")]));
    assert_eq!(case.pull(0, "site-1", 0), "piece");
    assert_eq!(case.pull(0, "site-1", 2), "eof");
    assert_eq!(case.status.borrow().receivers[0].given, Given::All);
    assert_eq!(case.outcome(), None);
    assert_eq!(case.pull(0, "site-2", 2), "eof");
    assert_eq!((case.outcome(), case.ledger.len(), case.ledger.held), (Some(Outcome::Delivered), 0, 0));
}

#[test]
fn a_lost_end_is_told_again_for_half_an_hour() {
    let mut case = case(Offer::to(cell("site-1")));
    case.pull(0, "site-1", 2);
    for at in [1, 1800] {
        assert_eq!((case.pull(at, "site-1", 2), case.pull(at, "site-1", 0)), ("eof", "eof"));
        assert_eq!(case.pull(at, "site-2", 2), "unknown");
    }
    assert_eq!(case.pull(1801, "site-1", 2), "unknown");
    case.ledger.tick(case.at(1801));
    assert!(case.ledger.finished.is_empty());
}

#[test]
fn only_so_many_finished_references_are_remembered() {
    let config = DownloadConfig { finished: 1, ..DownloadConfig::default() };
    let mut case = case_with(Offer::to(cell("site-1")), config);
    case.pull(0, "site-1", 2);
    let began = case.began;
    case.ledger.open(began, Offer::to(cell("site-1")), vec![("R2".into(), content())]).unwrap();
    let first = std::mem::replace(&mut case.ref_id, "R2".into());
    case.pull(0, "site-1", 2);
    assert_eq!(case.pull(0, "site-1", 2), "eof");
    case.ref_id = first;
    assert_eq!(case.pull(0, "site-1", 2), "unknown");
}

#[test]
fn strangers_are_refused_and_leave_no_trace() {
    let mut case = case(Offer::to(cell("site-1")).or_below(cell("site-2")).receivers(2));
    assert_eq!(case.pull(0, "site-3", 0), "refused");
    assert_eq!(case.pull(0, "site-1.job", 0), "refused");
    assert!(case.status.borrow().receivers.is_empty());
    for name in ["site-2.job", "site-1"] {
        assert_eq!(case.pull(0, name, 0), "piece");
    }
    // There are as many as were expected.
    assert_eq!(case.pull(0, "site-2", 0), "refused");
}

#[test]
fn a_cell_pulls_as_often_as_it_may() {
    let mut case = case(Offer::to(cell("site-1")).times(2).receivers(0));
    for _ in 0..2 {
        assert_eq!((case.pull(0, "site-1", 0), case.pull(0, "site-1", 2)), ("piece", "eof"));
        // Its last answer got lost.
        assert_eq!(case.pull(0, "site-1", 2), "eof");
    }
    assert_eq!((case.pull(0, "site-1", 0), case.pull(0, "site-1", 2)), ("refused", "eof"));
}

#[test]
fn who_may_pull_again_holds_up_nobody_who_waits() {
    let mut case = case(Offer::to(cell("site-1")).times(2));
    case.pull(0, "site-1", 2);
    assert_eq!((case.outcome(), case.ledger.len()), (Some(Outcome::Delivered), 1));
    assert_eq!((case.pull(299, "site-1", 0), case.pull(299, "site-1", 2)), ("piece", "eof"));
    assert_eq!((case.outcome(), case.ledger.len()), (Some(Outcome::Delivered), 0));
}

#[test]
fn a_cell_that_never_ends_draws_a_few_times_as_much_as_there_is() {
    let mut case = case(Offer::to(cell("site-1")));
    let pulled = (0..10_000).take_while(|_| case.pull(0, "site-1", 0) == "piece").count();
    assert!((4..2000).contains(&pulled), "{pulled}");
}

#[test]
fn a_transaction_without_progress_ends_after_its_life_time() {
    let mut case = case(Offer::to(cell("site-1")).ttl(Duration::from_secs(10)));
    assert_eq!(case.ledger.tick(case.at(9)), Some(case.at(10)));
    assert_eq!(case.pull(9, "site-1", 0), "piece");
    assert_eq!(case.ledger.tick(case.at(10)), Some(case.at(19)));
    assert_eq!(case.ledger.tick(case.at(19)), None);
    assert_eq!(case.outcome(), Some(Outcome::TimedOut));
    assert_eq!(case.pull(19, "site-1", 2), "unknown");
}

#[test]
fn an_answer_on_its_way_is_waited_for() {
    let mut case = case(Offer::to(cell("site-1")).ttl(Duration::from_secs(10)));
    let Verdict::Piece { ticket, .. } = case.ask(0, "site-1", 0) else { panic!("no piece") };
    assert_eq!(case.ledger.tick(case.at(100)), None);
    assert_eq!(case.outcome(), None);
    // The link broke before all of it was sent, and whoever asked may come again.
    case.ledger.settle(case.at(100), &ticket, Sent::Nothing);
    assert_eq!(case.ledger.tick(case.at(100)), Some(case.at(110)));
    assert_eq!((case.outcome(), case.pull(109, "site-1", 0)), (None, "piece"));
}

#[test]
fn who_asks_and_never_takes_the_answer_keeps_nothing_alive() {
    let mut case = case(Offer::to(cell("site-1")).ttl(Duration::from_secs(10)));
    for at in (0..1000).step_by(9) {
        case.ledger.tick(case.at(at));
        if let Verdict::Piece { ticket, .. } = case.ask(at, "site-1", 0) {
            case.ledger.settle(case.at(at), &ticket, Sent::Nothing);
        }
    }
    assert_eq!(case.outcome(), Some(Outcome::TimedOut));
}

#[test]
fn an_end_that_was_not_sent_ends_nothing() {
    let mut case = case(Offer::to(cell("site-1")));
    let Verdict::Eof(Some(ticket)) = case.ask(0, "site-1", 2) else { panic!("no end") };
    case.ledger.settle(case.at(0), &ticket, Sent::Nothing);
    assert_eq!(case.outcome(), None);
    assert_eq!(case.pull(0, "site-1", 2), "eof");
    assert_eq!(case.outcome(), Some(Outcome::Delivered));
}

#[test]
fn states_that_make_no_sense_are_told_so() {
    for state in [Object::from(1), Object::from_iter([("start", -1)]), items_state(0, 3)] {
        let mut case = case(Offer::to(cell("site-1")));
        let (now, ref_id) = (case.began, case.ref_id.clone());
        let verdict = case.ledger.ask(now, &cell("site-1"), &ref_id, Some(&state));
        let Verdict::Error(Some(ticket)) = verdict else { panic!("{verdict:?}") };
        case.ledger.settle(now, &ticket, Sent::Error);
        assert_eq!(case.outcome(), Some(Outcome::Failed));
        assert_eq!(case.pull(1, "site-1", 0), "error");
    }
}

#[test]
fn offers_are_bounded_and_released() {
    let config = DownloadConfig { transactions: 2, offered_bytes: 100, ..DownloadConfig::default() };
    let mut case = case_with(Offer::to(cell("site-1")), config);
    let (now, to) = (case.began, || Offer::to(cell("site-1")));
    let open = |ledger: &mut Ledger, offer| ledger.open(now, offer, vec![("R2".into(), content())]);
    assert!(matches!(open(&mut case.ledger, Offer::to_each([])), Err(OfferError::Nobody)));
    assert!(matches!(open(&mut case.ledger, to()), Err(OfferError::TooLarge { bytes: 64, limit: 100 })));
    case.ledger.release(now, case.id);
    assert_eq!((case.outcome(), case.ledger.held), (Some(Outcome::Released), 0));
    assert_eq!(case.pull(0, "site-1", 0), "unknown");
    open(&mut case.ledger, to()).unwrap();
    case.ledger.open(now, to(), Vec::new()).unwrap();
    assert!(matches!(open(&mut case.ledger, to()), Err(OfferError::TooMany(2))));
    case.ledger.close(now);
    assert!(matches!(open(&mut case.ledger, to()), Err(OfferError::ShuttingDown)));
}
