//! A pipe: a job process hands a task to a trainer process of the same site and gets the result.
//!
//! Both sides only dial; what they say travels through the cell that they attach to, here the server. In real life the
//! sides are two processes, and each knows where the cell listens, the site, and the token of the job.

use std::{error::Error, sync::Arc};

use cellnet::{
    CellUrl, SHUTDOWN,
    pipe::{CellPipe, HandlerConfig, Mode, Pipe, PipeEvent, PipeHandler, PipeMessage, Place},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = cellnet::builder("server".parse()?).listen("tcp://127.0.0.1:0".parse()?).start().await?;
    let root = server.listening()[0].clone();
    let trainer = tokio::spawn(train(open(Mode::Passive, root.clone()).await?));
    let job = open(Mode::Active, root).await?;

    let task = PipeMessage::new_request("train".parse()?, vec![1_u8; 3_000_000]);
    let taken = job.send_to_peer(&task, Some(job_timeout()), None).await?;
    assert!(taken.is_taken(), "{taken}");
    let Some(PipeEvent::Message(result)) = job.next().await else { return Err("no result came".into()) };
    assert_eq!(result.req_id.as_ref(), Some(&task.msg_id));
    assert_eq!(result.data.as_bytes(), 3_000_000_u64.to_be_bytes());
    println!("the trainer took {} bytes and answered {:?}", task.data.len(), result.data.as_bytes());

    // The trainer ends when it is told that the job is done.
    let done = job.pipe().send(&PipeMessage::end("end_of_job".into()), None).await?;
    assert!(done.is_taken(), "{done}");
    assert_eq!(trainer.await?, 1);
    close(job).await;
    server.shutdown(SHUTDOWN).await;
    Ok(())
}

/// One side of the pipe, open and watched over: heartbeats, resends, and the news that the peer is gone.
async fn open(mode: Mode, root: CellUrl) -> Result<PipeHandler, Box<dyn Error>> {
    let pipe =
        CellPipe::builder(mode, "site-1", "job-7", Place::root(root)).cell(cellnet::drivers).build()?;
    pipe.open("task").await?;
    println!("{} is open", pipe.fqcn());
    let handler = PipeHandler::new(Arc::new(pipe), HandlerConfig::default())?;
    handler.start();
    Ok(handler)
}

/// Answers tasks until the job ends; how many that were.
async fn train(handler: PipeHandler) -> usize {
    let mut tasks = 0;
    while let Some(event) = handler.next().await {
        match event {
            PipeEvent::Message(task) => {
                let sum: u64 = task.data.as_bytes().iter().copied().map(u64::from).sum();
                let result = PipeMessage::new_reply(&task, sum.to_be_bytes().to_vec());
                let sent = handler.send_to_peer(&result, Some(job_timeout()), None).await;
                assert!(sent.is_ok_and(|outcome| outcome.is_taken()));
                tasks += 1;
            }
            PipeEvent::End(_) => println!("the job is done"),
            PipeEvent::Abort(_) => println!("the job was aborted"),
            PipeEvent::PeerGone(why) => println!("the job is gone: {why}"),
            _ => {}
        }
    }
    close(handler).await;
    tasks
}

/// Without progress for so long, a message is sent again. It is delivered once all the same.
fn job_timeout() -> std::time::Duration {
    std::time::Duration::from_secs(5)
}

/// A handler leaves its pipe open.
async fn close(handler: PipeHandler) {
    handler.stop().await;
    handler.pipe().close().await;
}
