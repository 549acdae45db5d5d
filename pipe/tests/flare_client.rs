//! A trainer and its job, on a network in memory. The job is played by the two pipes that FLARE's job process has, and
//! the server fetches arrays as it does in a job.

use std::{sync::Arc, time::Duration};

use cellnet_core::{
    CellUrl,
    cell::{Cell, HandlerError, Request},
    fobs::{self, Array, Object},
    message::{Message, Payload},
    transport::mem::MemNet,
    wire::{Limits, keys::cn},
};
use cellnet_pipe::{
    CellPipe, HandlerConfig, Mode, Pipe, PipeEvent, PipeHandler, PipeHost, PipeMessage, Place, TreePolicy,
    download::{Downloads, Encoded, Offer, Outcome, wire},
    flare::{
        Dict, FlModel, ParamsType, Shareable,
        client::{
            ClientConfig, End, FlareClient, InitError, LogError, Metric, ReceiveError, SendError, TaskError,
        },
    },
    text_payload,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// What the trainer talks to.
struct Job {
    downloads: Downloads,
    tasks: PipeHandler,
    metrics: PipeHandler,
}

impl Job {
    async fn start(net: &MemNet) -> Self {
        let root = Cell::builder("server".parse().unwrap()).resolver(TreePolicy).transport(net.clone());
        let server = root.listen(hub()).start().await.unwrap();
        let host = PipeHost::new();
        let downloads = Downloads::attach(&server);
        let tasks = Self::side(net, &host, "task").await;
        Self { downloads, tasks, metrics: Self::side(net, &host, "metric").await }
    }

    async fn side(net: &MemNet, host: &PipeHost, name: &str) -> PipeHandler {
        let net = net.clone();
        let pipe = CellPipe::builder(Mode::Passive, "site-1", "job-7", Place::root(hub())).host(host);
        let pipe = pipe.cell(move |cell| cell.transport(net.clone())).build().unwrap();
        pipe.open(name).await.unwrap();
        pipe.cell().unwrap().connected().await;
        let handler = PipeHandler::new(Arc::new(pipe), HandlerConfig::default()).unwrap();
        handler.start();
        handler
    }

    /// Hands over a task whose arrays the server has.
    async fn ask(&self, id: &str, name: &str, model: FlModel) -> Encoded {
        let task = self.encode(model);
        self.tell(id, name, task.payload.clone()).await;
        task
    }

    fn encode(&self, model: FlModel) -> Encoded {
        let object = model.to_shareable().unwrap().into_object();
        self.downloads.encode(object, Offer::to("site-1_job-7_active".parse().unwrap())).unwrap()
    }

    async fn tell(&self, id: &str, name: &str, payload: Payload) {
        let task = PipeMessage::new_request(name.parse().unwrap(), payload).with_id(id);
        assert!(self.tasks.send_to_peer(&task, Some(5 * SECOND), None).await.unwrap().is_taken());
    }

    /// The next answer, not fetched.
    async fn answer(&self) -> PipeMessage {
        match timeout(60 * SECOND, self.tasks.next()).await.expect("an answer in time") {
            Some(PipeEvent::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    /// What the server makes of an answer.
    async fn fetch(&self, answer: &PipeMessage) -> Shareable {
        let Payload::Fobs(payload) = &answer.data else { panic!("{answer:?}") };
        let object = fobs::decode(payload, Limits::PAYLOAD).unwrap().into_object().unwrap();
        Shareable::try_from(self.downloads.resolve(object).await.unwrap()).unwrap()
    }
}

fn hub() -> CellUrl {
    "mem://hub".parse().unwrap()
}

/// What FLARE would say, with other values in the section of tasks.
fn config(changes: Value) -> ClientConfig {
    let mut json: Value = serde_json::from_str(include_str!("data/client_api_config.json")).unwrap();
    for section in ["TASK_EXCHANGE", "METRICS_EXCHANGE"] {
        json[section]["pipe"]["ARG"]["token"] = "job-7".into();
        json[section]["pipe"]["ARG"]["root_url"] = "mem://hub".into();
    }
    for (key, value) in changes.as_object().unwrap() {
        json["TASK_EXCHANGE"][key] = value.clone();
    }
    ClientConfig::from_json(&json.to_string()).unwrap()
}

async fn open(net: &MemNet, config: ClientConfig) -> FlareClient {
    let net = net.clone();
    FlareClient::builder(config).cell(move |cell| cell.transport(net.clone())).open().await.unwrap()
}

async fn started(changes: Value) -> (Job, FlareClient) {
    let net = MemNet::new();
    let job = Job::start(&net).await;
    let client = open(&net, config(changes)).await;
    (job, client)
}

fn model(elements: &[f64]) -> FlModel {
    FlModel::full(Object::from_iter([("w", Array::from(elements.to_vec()))]))
}

fn elements(model: &FlModel) -> Vec<f64> {
    model.params.as_ref().unwrap().get("w").unwrap().as_array().unwrap().to_vec().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_model_comes_from_the_server_and_goes_back_to_it() {
    let (job, client) = started(json!({})).await;
    let mut asked = model(&[1.0, 2.0]);
    (asked.current_round, asked.total_rounds) = (Some(1), Some(3));
    job.ask("task-1", "train", asked).await;

    let task = client.receive().await.unwrap().unwrap();
    assert_eq!((task.name(), task.id(), task.is_train()), ("train", "task-1", true));
    assert_eq!((task.model().current_round, task.model().total_rounds), (Some(1), Some(3)));
    assert_eq!(elements(task.model()), [1.0, 2.0]);

    let server = async {
        let answer = job.answer().await;
        assert_eq!(answer.req_id.as_deref(), Some("task-1"));
        assert!(answer.headers.flag(cn::PASS_THROUGH), "the job process is to leave references alone");
        let fetched = job.fetch(&answer).await;
        assert_eq!(fetched.return_code(), Some("OK"));
        FlModel::from_shareable(&fetched).unwrap()
    };
    let (sent, result) = tokio::join!(client.send(task, model(&[3.0, 4.0])), server);
    sent.unwrap();
    assert_eq!(elements(&result), [3.0, 4.0]);
    assert!(client.is_running());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_job_is_no_error() {
    let (job, client) = started(json!({})).await;
    job.tasks.notify_end(text_payload("end_of_job")).await;
    assert!(client.receive().await.unwrap().is_none());
    assert_eq!(client.end(), Some(End::Done));
    assert_eq!(client.close().await.exit_status(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_heard_on_the_pipe_of_metrics_too() {
    let (job, client) = started(json!({})).await;
    job.metrics.notify_end(text_payload("end_of_job")).await;
    assert_eq!(client.ended().await, End::Done);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_task_ends_the_wait_for_the_next_and_the_training() {
    let (job, client) = started(json!({})).await;
    job.ask("task-1", "train", model(&[1.0])).await;
    let task = client.receive().await.unwrap().unwrap();
    job.tasks.notify_abort(text_payload("task-1")).await;
    assert_eq!(client.ended().await, End::Aborted("task-1".into()));
    let sent = client.send(task, model(&[2.0])).await;
    assert!(matches!(sent, Err(SendError::Ended(End::Aborted(_)))), "{sent:?}");
    let next = client.receive().await;
    assert!(matches!(next, Err(ReceiveError::Ended(End::Aborted(_)))), "{next:?}");
    assert_eq!(client.close().await.exit_status(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_job_is_gone_after_its_deadline() {
    let (job, client) = started(json!({"HEARTBEAT_TIMEOUT": 30.0})).await;
    job.tasks.stop().await;
    job.metrics.stop().await;
    job.tasks.pipe().close().await;
    job.metrics.pipe().close().await;
    let began = Instant::now();
    let next = client.receive().await;
    assert!(matches!(next, Err(ReceiveError::Ended(End::PeerGone(_)))), "{next:?}");
    assert!(began.elapsed() <= 30 * SECOND);
    assert_eq!(client.close().await.exit_status(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_cannot_be_read_is_answered_with_an_error() {
    let (job, client) = started(json!({})).await;
    job.tell("task-1", "train", text_payload("no shareable")).await;
    let (received, answer) = tokio::join!(client.receive(), job.answer());
    assert!(matches!(received, Err(ReceiveError::Task(TaskError::Model(_)))), "{received:?}");
    assert_eq!(job.fetch(&answer).await.return_code(), Some("BAD_TASK_DATA"));
    // The next one may be better.
    job.ask("task-2", "train", model(&[1.0])).await;
    assert_eq!(client.receive().await.unwrap().unwrap().id(), "task-2");
}

#[tokio::test(start_paused = true)]
async fn arrays_that_are_gone_are_an_error_at_both_ends() {
    let (job, client) = started(json!({})).await;
    let large = model(&vec![1.0; 10_000]);
    let task = job.encode(large);
    task.transaction.as_ref().unwrap().release();
    job.tell("task-1", "train", task.payload.clone()).await;
    let (received, answer) = tokio::join!(client.receive(), job.answer());
    assert!(matches!(received, Err(ReceiveError::Task(TaskError::Arrays(_)))), "{received:?}");
    assert_eq!(job.fetch(&answer).await.return_code(), Some("COMMUNICATION_ERROR"));
}

#[tokio::test(start_paused = true)]
async fn a_process_for_one_task_ends_after_it() {
    let (job, client) = started(json!({"launch_once": false})).await;
    job.ask("task-1", "train", model(&[1.0])).await;
    let task = client.receive().await.unwrap().unwrap();
    let server = async { job.fetch(&job.answer().await).await };
    let (sent, _) = tokio::join!(client.send(task, model(&[2.0])), server);
    sent.unwrap();
    assert!(client.receive().await.unwrap().is_none());
    assert_eq!(client.close().await, End::Done);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_nobody_fetches_is_an_error_after_its_deadline() {
    let changes = json!({"download_complete_timeout": 100.0, "HEARTBEAT_TIMEOUT": 0});
    let (job, client) = started(changes).await;
    job.ask("task-1", "train", model(&[1.0])).await;
    let task = client.receive().await.unwrap().unwrap();
    let began = Instant::now();
    let sent = client.send(task, model(&[2.0])).await;
    assert!(matches!(sent, Err(SendError::NotFetched(Outcome::TimedOut))), "{sent:?}");
    assert!(began.elapsed() >= 100 * SECOND);
    assert_eq!(job.answer().await.req_id.as_deref(), Some("task-1"));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_lets_nobody_wait_fetches_all_the_same() {
    let changes =
        json!({"download_complete_timeout": 0, "submit_result_timeout": 100.0, "HEARTBEAT_TIMEOUT": 0});
    let (job, client) = started(changes).await;
    job.ask("task-1", "train", model(&[1.0])).await;
    let task = client.receive().await.unwrap().unwrap();
    let began = Instant::now();
    client.send(task, model(&[2.0])).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    let answer = job.answer().await;
    tokio::time::sleep(90 * SECOND).await;
    let fetched = job.fetch(&answer).await;
    assert_eq!(elements(&FlModel::from_shareable(&fetched).unwrap()), [2.0]);
}

#[tokio::test(start_paused = true)]
async fn a_result_without_arrays_waits_for_nobody() {
    let (job, client) = started(json!({})).await;
    job.ask("task-1", "validate", model(&[1.0])).await;
    let task = client.receive().await.unwrap().unwrap();
    assert!(task.is_evaluate());
    let began = Instant::now();
    client.send(task, FlModel::of_metrics(Dict::from_iter([("accuracy", 0.5)]))).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    let result = FlModel::from_shareable(&job.fetch(&job.answer().await).await).unwrap();
    assert_eq!(result.metrics.unwrap().get("accuracy").unwrap().as_f64(), Some(0.5));
}

#[tokio::test(start_paused = true)]
async fn once_the_job_is_done_nobody_waits_long_for_a_fetch() {
    let (job, client) = started(json!({})).await;
    job.ask("task-1", "train", model(&[1.0])).await;
    let task = client.receive().await.unwrap().unwrap();
    let end = async {
        job.answer().await;
        job.tasks.notify_end(text_payload("end_of_job")).await;
    };
    let began = Instant::now();
    let (sent, ()) = tokio::join!(client.send(task, model(&[2.0])), end);
    sent.unwrap();
    assert!(began.elapsed() < 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_does_not_get_the_arrays_of_a_result() {
    let net = MemNet::new();
    let job = Job::start(&net).await;
    let client = open(&net, config(json!({}))).await;
    let stranger = Cell::builder("site-2".parse().unwrap()).resolver(TreePolicy).transport(net.clone());
    let stranger = stranger.dial(hub()).start().await.unwrap();
    stranger.connected().await;
    job.ask("task-1", "train", model(&[1.0])).await;
    let task = client.receive().await.unwrap().unwrap();
    let server = async {
        let answer = job.answer().await;
        let Payload::Fobs(payload) = &answer.data else { panic!("{answer:?}") };
        let object = fobs::decode(payload, Limits::PAYLOAD).unwrap().into_object().unwrap();
        let refused = Downloads::attach(&stranger).resolve(object).await;
        assert!(refused.is_err());
        job.fetch(&answer).await
    };
    let (sent, _) = tokio::join!(client.send(task, model(&[2.0])), server);
    sent.unwrap();
}

#[tokio::test(start_paused = true)]
async fn differences_are_what_the_server_has_to_add() {
    let (job, client) = started(json!({"transfer_type": "DIFF"})).await;
    job.ask("task-1", "train", model(&[1.0, 2.0])).await;
    let task = client.receive().await.unwrap().unwrap();
    let server = async { FlModel::from_shareable(&job.fetch(&job.answer().await).await).unwrap() };
    let (sent, result) = tokio::join!(client.send(task, model(&[1.5, 4.0])), server);
    sent.unwrap();
    assert_eq!((elements(&result), result.params_type), (vec![0.5, 2.0], Some(ParamsType::Diff)));
}

#[tokio::test(start_paused = true)]
async fn metrics_reach_the_job() {
    let (job, client) = started(json!({})).await;
    let metric = Metric::scalar("loss", 0.5).at_step(3);
    client.log(&metric).await.unwrap();
    let Some(PipeEvent::Message(told)) = job.metrics.next().await else { panic!("no metric") };
    assert_eq!(told.topic.as_str(), "metric");
    let sent = Message::new(Payload::Fobs(fobs::encode(&fobs::Document::new(metric.to_object()))));
    assert_eq!(told.data, sent.payload);
}

#[tokio::test(start_paused = true)]
async fn a_job_without_metrics_says_so() {
    let net = MemNet::new();
    let _job = Job::start(&net).await;
    let mut without = config(json!({}));
    without.metrics = None;
    let client = open(&net, without).await;
    let logged = client.log(&Metric::scalar("loss", 0.5)).await;
    assert!(matches!(logged, Err(LogError::NoMetrics)), "{logged:?}");
}

#[tokio::test(start_paused = true)]
async fn a_trainer_that_leaves_in_the_middle_tells_the_job() {
    let (job, client) = started(json!({})).await;
    job.ask("task-1", "train", model(&[1.0])).await;
    client.receive().await.unwrap().unwrap();
    let (end, told) = tokio::join!(client.close(), job.tasks.next());
    assert_eq!(end, End::Stopped);
    assert!(matches!(told, Some(PipeEvent::Abort(_))), "{told:?}");
}

/// The job takes a task for received once this side has acknowledged it.
#[tokio::test(start_paused = true)]
async fn a_trainer_that_leaves_before_it_looks_tells_the_job() {
    for settles in [false, true] {
        let (job, client) = started(json!({})).await;
        job.ask("task-1", "train", model(&[1.0])).await;
        if settles {
            // Long enough for the handler to have it.
            tokio::time::sleep(SECOND).await;
        }
        let (_, told) = tokio::join!(client.close(), job.tasks.next());
        assert!(matches!(told, Some(PipeEvent::Abort(_))), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trainer_that_leaves_and_was_asked_nothing_says_nothing() {
    let (job, client) = started(json!({})).await;
    client.close().await;
    assert!(timeout(SECOND, job.tasks.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_trainer_that_cannot_do_a_task_tells_the_job() {
    let (job, client) = started(json!({})).await;
    job.ask("task-1", "train", model(&[1.0])).await;
    let task = client.receive().await.unwrap().unwrap();
    client.fail(task, "out of memory").await.unwrap();
    let answer = job.fetch(&job.answer().await).await;
    assert_eq!(answer.return_code(), Some("EXECUTION_EXCEPTION"));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_receive_loses_no_task() {
    let net = MemNet::new();
    let job = Job::start(&net).await;
    let client = open(&net, config(json!({}))).await;
    let task = job.encode(model(&vec![1.0; 10_000]));
    job.tell("task-1", "train", task.payload.clone()).await;
    // The message is there, and its arrays are on their way when the future is dropped.
    let mut fetched = task.transaction.unwrap();
    tokio::select! {
        biased;
        began = fetched.changed() => assert!(began.unwrap().outcome.is_none()),
        task = client.receive() => panic!("{task:?}"),
    }
    assert_eq!(client.receive().await.unwrap().unwrap().id(), "task-1");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_receive_does_not_leave_the_job_without_an_answer() {
    let (job, client) = started(json!({})).await;
    job.tell("task-1", "train", text_payload("no shareable")).await;
    // Dropped when the job has the answer, and the trainer does not know it yet.
    let first = tokio::select! {
        biased;
        answer = job.answer() => answer,
        received = client.receive() => panic!("{received:?}"),
    };
    let (received, second) = tokio::join!(client.receive(), job.answer());
    assert!(matches!(received, Err(ReceiveError::Task(TaskError::Model(_)))), "{received:?}");
    for answer in [first, second] {
        assert_eq!(job.fetch(&answer).await.return_code(), Some("BAD_TASK_DATA"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_trainer_that_leaves_while_it_fetches_tells_the_job() {
    let (job, client) = started(json!({})).await;
    let silent = |_: Request| std::future::pending::<Result<Message, HandlerError>>();
    job.downloads.cell().handle(wire::CHANNEL, wire::TOPIC, silent);
    let task = job.encode(model(&vec![1.0; 10_000]));
    job.tell("task-1", "train", task.payload.clone()).await;
    assert!(timeout(SECOND, client.receive()).await.is_err());
    let (_, told) = tokio::join!(client.close(), job.tasks.next());
    assert!(matches!(told, Some(PipeEvent::Abort(_))), "{told:?}");
}

/// One answer has all of an array, so nothing is new for longer than somebody is waited for who does not fetch.
#[tokio::test(start_paused = true)]
async fn a_slow_fetch_is_waited_for_although_the_job_is_done() {
    let net = MemNet::new();
    let job = Job::start(&net).await;
    let host = net.host("trainer");
    let client = FlareClient::builder(config(json!({}))).cell(move |cell| cell.transport(host.clone()));
    let client = client.open().await.unwrap();
    job.ask("task-1", "train", model(&[1.0])).await;
    let task = client.receive().await.unwrap().unwrap();
    net.set_latency("trainer", "hub", SECOND);
    let server = async {
        let answer = job.answer().await;
        job.tasks.notify_end(text_payload("end_of_job")).await;
        assert_eq!(client.ended().await, End::Done);
        job.fetch(&answer).await
    };
    let began = Instant::now();
    let (sent, result) = tokio::join!(client.send(task, model(&vec![2.0; 3_000_000])), server);
    sent.unwrap();
    assert!(began.elapsed() > 80 * SECOND, "{:?}", began.elapsed());
    assert_eq!(elements(&FlModel::from_shareable(&result).unwrap()).len(), 3_000_000);
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_a_client_does_not_open() {
    let net = MemNet::new();
    let builder = FlareClient::builder(config(json!({}))).cell(move |cell| cell.transport(net.clone()));
    let opened = builder.connect_within(10 * SECOND).open().await;
    assert!(matches!(opened, Err(InitError::NotConnected { .. })), "{opened:?}");
}
