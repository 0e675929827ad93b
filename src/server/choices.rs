//! The answers of one request, each on its way through queue and worker.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::error::{ApiError, Type};
use super::state::Shared;
use crate::request::Request;
use crate::server::client::Event;
use crate::worker::protocol::{Delta, Done, Finish, Started};

/// What happens to one choice. `Done` is its last.
#[derive(Debug)]
pub enum ChoiceEvent {
    Started(Started),
    Delta(Delta),
    Done(Box<Done>),
}

/// All choices of a request. Dropping them cancels what is not done.
pub struct Choices {
    events: mpsc::Receiver<(u32, Result<ChoiceEvent, ApiError>)>,
    _tasks: JoinSet<()>,
}

impl Choices {
    /// Asks for `count` answers to the same request, each with a seed of its own.
    #[must_use]
    pub fn start(app: &Shared, request: Request, count: u32) -> Self {
        let (sender, events) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        // The request itself goes to the last choice: pictures are copied for the others only.
        let mut request = Some(request);
        for index in 0..count {
            let own = if index + 1 == count { request.take() } else { request.clone() };
            let Some(mut own) = own else { continue };
            own.sampling.seed = own.sampling.seed.map(|seed| seed.wrapping_add(index));
            let (app, sender) = (Shared::clone(app), sender.clone());
            tasks.spawn(async move {
                if let Err(error) = one(&app, own, index, &sender).await {
                    // Nobody listens: then nobody wants to know.
                    let _ = sender.send((index, Err(error))).await;
                }
            });
        }
        Self { events, _tasks: tasks }
    }

    /// The next events of any choice; an error is the end of them all.
    pub async fn next(&mut self) -> Option<(u32, Result<ChoiceEvent, ApiError>)> {
        self.events.recv().await
    }
}

async fn one(
    app: &Shared,
    request: Request,
    index: u32,
    sender: &mpsc::Sender<(u32, Result<ChoiceEvent, ApiError>)>,
) -> Result<(), ApiError> {
    let _slot = app.admission.slot().await;
    // The worker may have died while this request waited.
    app.ready().await?;
    let mut answer = app.client.generate(request).await?;
    while let Some(event) = answer.next().await {
        let events = match event {
            Event::Started(started) => ChoiceEvent::Started(started),
            Event::Delta(delta) => ChoiceEvent::Delta(delta),
            Event::Done(done) if done.finish == Finish::Cancelled => {
                return Err(ApiError::new(Type::Unavailable, "the server is stopping"));
            }
            Event::Done(done) => ChoiceEvent::Done(done),
            Event::Failed(failed) => return Err(failed.into()),
            Event::Died(death) => return Err(ApiError::died(&death)),
        };
        if sender.send((index, Ok(events))).await.is_err() {
            break;
        }
    }
    Ok(())
}
