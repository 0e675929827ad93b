//! The worker as a process: its socket, its threads, its end.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::frame;
use super::protocol::{Command, Event};
use super::service::{Input, Options, Service};
use crate::error::{Error, Kind, Result};
use crate::pair::Loading;
use crate::stop::Stop;

/// Serves the other end of the socket that is this process's standard input.
///
/// # Errors
/// A fault that keeps it from starting; the other end is told too.
pub fn run(options: &Options) -> Result<()> {
    let socket = socket()?;
    ignore_signals()?;
    die_of_panics();
    let stop = options.load.stop;
    let (say, said) = channel();
    let writer = thread("writer", {
        let socket = clone(&socket)?;
        move || write(socket, &said, stop)
    })?;
    let (inputs, received) = channel();
    let outcome = serve(options, &socket, inputs, &received, &say);
    if let Err(error) = &outcome {
        let _ = say.send(Event::LoadFailed { kind: error.kind(), message: error.message().to_owned() });
    }
    // The writer ends with the last sender, once everything is written.
    drop(say);
    let _ = writer.join();
    outcome
}

fn serve(
    options: &Options,
    socket: &UnixStream,
    inputs: Sender<Input>,
    received: &Receiver<Input>,
    say: &Sender<Event>,
) -> Result<()> {
    let reading = clone(socket)?;
    let stop = options.load.stop;
    // From the start, so that a parent that goes away while the weights load is noticed.
    thread("reader", {
        let inputs = inputs.clone();
        move || read(reading, &inputs, stop)
    })?;
    let loading = say.clone();
    let shown = std::cell::Cell::new(-1.0);
    let (service, ready) = Service::start(options, inputs, move |stage| {
        let share = match stage {
            Loading::Projector => 0.0,
            Loading::Text(share) => share,
        };
        // A hundred lines say enough.
        if share - shown.get() >= 0.01 {
            shown.set(share);
            let _ = loading.send(Event::Loading { share });
        }
    })?;
    let _ = say.send(Event::Ready(Box::new(ready)));
    service.run(received, |event| {
        let _ = say.send(event);
    });
    Ok(())
}

fn read(mut socket: UnixStream, inputs: &Sender<Input>, stop: Stop) {
    loop {
        let input = match frame::read::<Command>(&mut socket) {
            Ok(Some(request)) => Input::Command(request),
            Ok(None) => Input::Closed,
            Err(error) => {
                tracing::error!("cannot understand the server: {error}");
                Input::Closed
            }
        };
        let closed = matches!(input, Input::Closed);
        if closed {
            // Nobody waits for the answers any more.
            stop.ask();
        }
        if inputs.send(input).is_err() || closed {
            return;
        }
    }
}

fn write(mut socket: UnixStream, events: &Receiver<Event>, stop: Stop) {
    for event in events {
        if let Err(error) = frame::write(&mut socket, &event) {
            tracing::error!("cannot reach the server: {error}");
            stop.ask();
            return;
        }
    }
}

/// A signal to the whole group of processes is the server's to answer: it drains, and then ends
/// this process by closing the socket.
fn ignore_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .map_err(|error| Error::new(Kind::Native, format!("cannot watch for signals: {error}")))?;
    }
    Ok(())
}

/// A thread that panics would leave requests waiting for ever: better dead and started again.
fn die_of_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::abort();
    }));
}

fn socket() -> Result<UnixStream> {
    let no_socket = |error: io::Error| {
        Error::usage(format!(
            "a worker is started by illava serve, with a socket as its standard input ({error})"
        ))
    };
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(no_socket)?;
    let socket = UnixStream::from(input);
    socket.peer_addr().map_err(no_socket)?;
    Ok(socket)
}

fn clone(socket: &UnixStream) -> Result<UnixStream> {
    socket.try_clone().map_err(|error| Error::new(Kind::Native, format!("cannot share the socket: {error}")))
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|error| Error::new(Kind::Native, format!("cannot start a thread: {error}")))
}
