//! How a trainer ends: the example `flare_trainer` in a job that this process plays.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use cellnet::{
    Cell, Fqcn, SHUTDOWN,
    flare::FlModel,
    fobs::{self, Array, ArrayKind, Document, Object, Source},
    pipe::{
        CellPipe, HandlerConfig, Mode, Pipe, PipeEvent, PipeHandler, PipeMessage, Place, download::wire,
        text_payload,
    },
};
use cellnet_core::{
    cell::{HandlerError, Request},
    message::{Message, Payload},
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{flare::built_trainer, process::Process};

/// A job with one trainer.
struct Job {
    server: Cell,
    tasks: PipeHandler,
    trainer: Process,
}

impl Job {
    /// `patience` is how long the trainer bears our silence.
    async fn start(name: &str, patience: Duration) -> Self {
        let server = cellnet::builder(Fqcn::server()).listen("tcp://127.0.0.1:0".parse().unwrap());
        let server = server.start().await.unwrap();
        let url = server.listening()[0].clone();
        let pipe = CellPipe::builder(Mode::Passive, "site-1", "job-7", Place::root(url.clone()));
        let pipe = Arc::new(pipe.cell(cellnet::drivers).build().unwrap());
        pipe.open("task").await.unwrap();
        let tasks = PipeHandler::new(pipe, HandlerConfig::default()).unwrap();
        tasks.start();

        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("trainer-{name}"));
        fs::create_dir_all(folder.join("config")).unwrap();
        let config = config(url.to_string(), patience).to_string();
        fs::write(folder.join("config/client_api_config.json"), config).unwrap();
        let mut command = Command::new(built_trainer());
        command.args(["--add", "1"]).current_dir(folder);
        let trainer = Process::spawn("flare_trainer".into(), command);
        Self { server, tasks, trainer }
    }

    /// With a trainer that has given a result whose arrays nobody fetches.
    async fn with_a_waiting_trainer(name: &str, patience: Duration) -> Self {
        let job = Self::start(name, patience).await;
        job.give(model().to_shareable().unwrap().payload()).await;
        let Some(PipeEvent::Message(result)) = job.tasks.next().await else { panic!("no result") };
        assert_eq!(result.req_id.as_deref(), Some("task-1"));
        job
    }

    /// Hands over a task.
    async fn give(&self, payload: Payload) {
        let task = PipeMessage::new_request("train".parse().unwrap(), payload).with_id("task-1");
        let sent = self.tasks.send_to_peer(&task, Some(Duration::from_secs(30)), None).await.unwrap();
        assert!(sent.is_taken(), "{sent}");
    }

    /// The status with which the trainer ends by itself.
    async fn status(mut self) -> Option<i32> {
        let status = self.trainer.exit().await.code();
        self.tasks.stop().await;
        self.tasks.pipe().close().await;
        self.server.shutdown(SHUTDOWN).await;
        status
    }
}

fn model() -> FlModel {
    FlModel::full(Object::from_iter([("w", Array::from(vec![1_i64, 2]))]))
}

fn config(root_url: String, patience: Duration) -> Value {
    json!({
        "site_name": "site-1",
        "job_id": "job-7",
        "TASK_EXCHANGE": {
            "pipe": {
                "CLASS_NAME": "nvflare.fuel.utils.pipe.cell_pipe.CellPipe",
                "ARG": {
                    "mode": "ACTIVE", "site_name": "site-1", "token": "job-7", "root_url": root_url,
                    "secure_mode": false, "workspace_dir": "",
                },
            },
            "HEARTBEAT_TIMEOUT": patience.as_secs_f64(),
            "launch_once": true,
        },
    })
}

const LONG: Duration = Duration::from_secs(300);

#[tokio::test]
async fn sigterm_ends_a_trainer_in_order() {
    let mut job = Job::with_a_waiting_trainer("sigterm", LONG).await;
    assert_eq!(job.trainer.stop().await.code(), Some(143));
    // It says so itself; one that is ended by force does not.
    let said = job.trainer.stderr();
    assert!(said.contains("asked to end"), "{said}");
    assert_eq!(job.status().await, Some(143));
}

#[tokio::test]
async fn a_trainer_that_is_ended_in_the_middle_of_a_task_tells_its_job() {
    let mut job = Job::start("middle", LONG).await;
    // It asks for the arrays of this one, and never gets them.
    let asked = Arc::new(Notify::new());
    let told = asked.clone();
    job.server.handle(wire::CHANNEL, wire::TOPIC, move |_: Request| {
        told.notify_one();
        std::future::pending::<Result<Message, HandlerError>>()
    });
    let source = Source::new(Fqcn::server(), "R1");
    let mut task = model().to_shareable().unwrap().into_object();
    task.refer(ArrayKind::Numpy, &source);
    job.give(Payload::Fobs(fobs::encode(&Document::new(task)))).await;
    asked.notified().await;
    assert_eq!(job.trainer.stop().await.code(), Some(143));
    assert!(matches!(job.tasks.next().await, Some(PipeEvent::Abort(_))));
    assert_eq!(job.status().await, Some(143));
}

#[tokio::test]
async fn a_trainer_of_a_job_that_is_done_has_done_nothing_wrong() {
    let job = Job::with_a_waiting_trainer("end", LONG).await;
    job.tasks.notify_end(text_payload("end_of_job")).await;
    assert_eq!(job.status().await, Some(0));
}

#[tokio::test]
async fn a_trainer_says_that_its_job_gave_up() {
    let job = Job::with_a_waiting_trainer("abort", LONG).await;
    job.tasks.notify_abort(text_payload("task-1")).await;
    assert_eq!(job.status().await, Some(1));
}

#[tokio::test]
async fn a_trainer_does_not_outlive_its_job() {
    let job = Job::with_a_waiting_trainer("gone", Duration::from_secs(2)).await;
    job.tasks.stop().await;
    assert_eq!(job.status().await, Some(7));
}
