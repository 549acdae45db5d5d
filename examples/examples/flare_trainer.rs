//! A trainer of a FLARE job: FLARE starts it, hands it models, and gets back better ones.
//!
//! Without arguments it trains a logistic regression: which machines fail within a week, from what their sensors say.
//! Each site has rows of its own. With `--add X` it adds X to every number of the model instead, which shows whether
//! models arrive as they were sent. In a job, the command line of the launcher is the path of this program; started by
//! hand, without a job, it trains alone for a few rounds.

use std::{env, error::Error, process::ExitCode, time::Duration};

use cellnet::{
    flare::{self, Dict, FlModel, FlareClient, Metric, Task, meta},
    fobs::{Array, DType, Object},
};

#[path = "flare_trainer/machines.rs"]
mod machines;
#[path = "flare_trainer/regression.rs"]
mod regression;

use machines::Machines;
use regression::Regression;

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let trainer = Trainer::from_args(env::args().skip(1))?;
    let config = match flare::ClientConfig::load() {
        Ok(config) => config,
        Err(flare::ConfigError::Read { .. }) => {
            println!("no '{}' here: not started by FLARE", flare::CONFIG_FILE);
            return trainer.alone().map(|()| ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    // SIGTERM is how FLARE ends a trainer; what is under way then gets this long to end in order.
    let client = flare::client(config)?.on_sigterm(Duration::from_secs(5)).open().await?;
    println!("trainer of {} in job {}", client.site(), client.job_id());
    let outcome = trainer.serve(&client).await;
    let end = client.close().await;
    outcome?;
    println!("{end}");
    Ok(ExitCode::from(end.exit_status()))
}

/// What is done with models.
enum Trainer {
    /// Adds a number to every number.
    Add(f64),
    /// Trains on the rows of the site.
    Learn,
}

impl Trainer {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        match (args.next().as_deref(), args.next(), args.next()) {
            (None, ..) => Ok(Self::Learn),
            (Some("--add"), Some(number), None) => Ok(Self::Add(number.parse()?)),
            _ => Err("usage: flare_trainer [--add X]".into()),
        }
    }

    /// Does what the job asks for, until it asks for nothing more.
    async fn serve(&self, client: &FlareClient) -> Result<(), Box<dyn Error>> {
        let rows = Machines::of_site(client.site());
        loop {
            let done = match client.receive().await {
                Ok(Some(task)) => self.answer(client, &rows, task).await,
                Ok(None) => return Ok(()),
                Err(error) => Err(error.into()),
            };
            match done {
                Ok(()) => {}
                // Whatever failed then failed because of that.
                Err(_) if !client.is_running() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn answer(&self, client: &FlareClient, rows: &Machines, task: Task) -> Result<(), Box<dyn Error>> {
        let result = match self {
            Self::Add(number) => add(*number, &task),
            Self::Learn => learn(client, rows, &task).await,
        };
        match result {
            Ok(model) => Ok(client.send(task, model).await?),
            // The job need not wait for a result that will not come.
            Err(error) => {
                client.fail(task, &error.to_string()).await?;
                Err(error)
            }
        }
    }

    /// What can be shown without a job.
    fn alone(&self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Add(number) => {
                let array = added(&Array::from(vec![0_i64, 1, 2]), *number)?;
                println!("[0, 1, 2] + {number} = {:?}", array.to_vec::<i64>()?);
            }
            Self::Learn => {
                let rows = Machines::of_site("site-1");
                let mut model = Regression::default();
                for round in 0..5 {
                    let score = model.score(&rows.others);
                    println!("round {round}: loss {:.4}, accuracy {:.3}", score.loss, score.accuracy);
                    model.train(&rows.own);
                }
            }
        }
        Ok(())
    }
}

/// Adds a number to every number of the model, exactly, in the type that it has.
fn add(number: f64, task: &Task) -> Result<FlModel, Box<dyn Error>> {
    let params = task.model().params.as_ref().ok_or("the model has no parameters")?;
    let mut sums = Vec::new();
    for (name, value) in params.pairs().ok_or("the parameters have no names")? {
        let array = value.as_array().ok_or("a parameter is no array")?;
        println!("round {:?}: {} {array:?} + {number}", task.model().current_round, text(name));
        sums.push((name.clone(), Object::Array(added(array, number)?)));
    }
    Ok(FlModel::full(Object::Map(sums)))
}

fn added(array: &Array, number: f64) -> Result<Array, Box<dyn Error>> {
    let whole = number as i64;
    if !matches!(array.dtype(), DType::F32 | DType::F64) && whole as f64 != number {
        return Err(format!("{number} is no {}", array.dtype()).into());
    }
    Ok(match array.dtype() {
        DType::F32 => array.map(|x: f32| x + number as f32)?,
        DType::F64 => array.map(|x: f64| x + number)?,
        DType::I32 => array.map(|x: i32| x + whole as i32)?,
        DType::I64 => array.map(|x: i64| x + whole)?,
        other => return Err(format!("no sums of {other} here").into()),
    })
}

/// Scores the model that came, trains it on the rows of this site, and tells the job how good it was.
async fn learn(client: &FlareClient, rows: &Machines, task: &Task) -> Result<FlModel, Box<dyn Error>> {
    let mut model =
        Regression::from_params(task.model().params.as_ref().ok_or("the model has no parameters")?)?;
    let score = model.score(&rows.others);
    let round = task.model().current_round.unwrap_or(0);
    println!("round {round}: loss {:.4}, accuracy {:.3}", score.loss, score.accuracy);
    let step = u32::try_from(round)?;
    client.log(&Metric::scalar("loss", score.loss).at_step(step)).await?;
    client.log(&Metric::scalar("accuracy", score.accuracy).at_step(step)).await?;
    let metrics = Dict::from_iter([("loss", score.loss), ("accuracy", score.accuracy)]);
    if task.is_evaluate() {
        return Ok(FlModel::of_metrics(metrics));
    }
    // Long work belongs where it holds up neither heartbeats nor whoever fetches arrays.
    let own = rows.own.clone();
    let model = tokio::task::spawn_blocking(move || {
        model.train(&own);
        model
    })
    .await?;
    let mut trained = FlModel::full(model.to_params());
    trained.metrics = Some(metrics);
    trained.set_meta(meta::NUM_STEPS_CURRENT_ROUND, rows.own.len() as i64);
    Ok(trained)
}

fn text(name: &Object) -> &str {
    name.as_str().unwrap_or("?")
}
