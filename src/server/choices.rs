//! Answers to one body, each on its way through pictures, queue and worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

use super::error::{ApiError, Type};
use super::media::FetchedVideos;
use super::state::Shared;
use crate::request::{Reference, Request, VideoPlan};
use crate::server::client::Event;
use crate::worker::protocol::{Delta, Done, Finish, Started};

/// Event of one choice. `Done` is its last.
#[derive(Debug)]
pub enum ChoiceEvent {
    Started(Started),
    Delta(Delta),
    Done(Box<Done>),
}

type Update = (u32, Result<ChoiceEvent, ApiError>);

/// All choices of a body. Dropping them cancels those under way.
pub struct Choices {
    events: mpsc::Receiver<Update>,
    app: Shared,
    /// Time when the body came; `None` after the first update.
    since: Option<Instant>,
    _task: JoinSet<()>,
}

impl Choices {
    /// Asks for `count` answers to each request, each with its own seed. Choice `i` is answer `i % count` to
    /// request `i / count`.
    #[must_use]
    pub fn start(
        app: &Shared,
        requests: Vec<(Request<Reference>, FetchedVideos, VideoPlan)>,
        count: u32,
        since: Instant,
    ) -> Self {
        let (sender, events) = mpsc::channel(16);
        let mut task = JoinSet::new();
        let all = All { app: Shared::clone(app), sender, begun: Arc::default() };
        task.spawn(async move {
            if let Err(error) = all.run(requests, count).await {
                // If nothing receives the event any more, nothing needs it.
                let _ = all.sender.send((0, Err(error))).await;
            }
        });
        Self { events, app: Shared::clone(app), since: Some(since), _task: task }
    }

    /// Returns the next events of any choice. An error ends all choices.
    pub async fn next(&mut self) -> Option<Update> {
        let update = self.events.recv().await;
        if let Some(since) = self.since.take_if(|_| matches!(update, Some((_, Ok(_))))) {
            self.app.metrics.first_update(since.elapsed());
        }
        update
    }
}

#[derive(Clone)]
struct All {
    app: Shared,
    sender: mpsc::Sender<Update>,
    /// Whether an answer has its slot: the body's other answers are then under way too.
    begun: Arc<AtomicBool>,
}

impl All {
    async fn run(
        &self,
        requests: Vec<(Request<Reference>, FetchedVideos, VideoPlan)>,
        count: u32,
    ) -> Result<(), ApiError> {
        let prepared = tokio::select! {
            biased;
            () = self.app.stopping() => return Err(ApiError::stopping()),
            prepared = self.app.admission.prepare() => Arc::new(prepared),
        };
        let mut answers = JoinSet::new();
        for (number, (mut request, fetched, plan)) in (0..).zip(requests) {
            let shown = self.app.media.read(std::mem::take(&mut request.media), fetched, plan).await?;
            let request = request.showing(shown);
            self.app.metrics.shown(&request.media);
            // The last choice takes the request itself. The others get copies of the pictures.
            let mut request = Some(request);
            for choice in 0..count {
                let own = if choice + 1 == count { request.take() } else { request.clone() };
                let Some(mut own) = own else { continue };
                own.sampling.seed = own.sampling.seed.map(|seed| seed.wrapping_add(choice));
                let (all, prepared) = (self.clone(), Arc::clone(&prepared));
                answers.spawn(async move {
                    let index = number * count + choice;
                    if let Err(error) = all.one(own, index, prepared).await {
                        let _ = all.sender.send((index, Err(error))).await;
                    }
                });
            }
        }
        drop(prepared);
        while answers.join_next().await.is_some() {}
        Ok(())
    }

    async fn one(
        &self,
        request: Request,
        index: u32,
        prepared: Arc<Option<OwnedSemaphorePermit>>,
    ) -> Result<(), ApiError> {
        let refused = async {
            self.app.stopping().await;
            if self.begun.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        let _slot = tokio::select! {
            biased;
            () = refused => return Err(ApiError::stopping()),
            slot = self.app.admission.slot() => slot,
        };
        self.begun.store(true, Ordering::Relaxed);
        // The worker may have died while this request waited.
        self.app.ready().await?;
        let mut answer = self.app.client.generate(request).await?;
        drop(prepared);
        while let Some(event) = answer.next().await {
            let event = match event {
                Event::Started(started) => ChoiceEvent::Started(started),
                Event::Delta(delta) => ChoiceEvent::Delta(delta),
                Event::Done(done) if done.finish == Finish::Cancelled => {
                    return Err(ApiError::new(Type::Unavailable, "the server is stopping"));
                }
                Event::Done(done) => ChoiceEvent::Done(done),
                Event::Failed(failed) => return Err(failed.into()),
                Event::Died(death) => return Err(ApiError::died(&death)),
            };
            if self.sender.send((index, Ok(event))).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}
