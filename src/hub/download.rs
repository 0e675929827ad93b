//! One file from the hub to its place in the cache.
//!
//! The content grows in `HASH.incomplete`. It gets its final name when its length and checksum are those that
//! the repository lists, so every file of that name is whole. The next download continues a broken one.

use std::fs::{self, File as Handle, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::Step;
use super::cache::{Cache, unwritable};
use super::client::{Client, Failure};
use super::listing::{File, Hasher};
use super::settings::Patience;
use crate::error::{Error, Kind, Result};

const CHUNK: usize = 256 << 10;

/// # Errors
/// [`Kind::File`]: no host answers, the server refuses, the content is not the listed one, or the disk is
/// full.
pub(super) fn download(
    client: &Client,
    cache: &Cache,
    file: &File,
    commit: &str,
    patience: Patience,
    watch: &mut dyn FnMut(Step<'_>),
) -> Result<()> {
    if cache.has(file) {
        return Ok(());
    }
    let lock = cache.lock(&file.checksum)?;
    take(&lock, &cache.blob(&file.checksum), &file.path, watch)?;
    // The former holder of the lock may have finished the file.
    if cache.has(file) {
        return Ok(());
    }
    let path = cache.partial(&file.checksum);
    watch(Step::Start { file: &file.path, size: file.size });
    let mut partial = Partial::open(&path, file)?;
    watch(Step::At(partial.length));
    let inherited = partial.length > 0;
    partial.fill(client, commit, patience, watch)?;
    if !partial.is_right() && inherited {
        // The part from an earlier run may have been damaged: once more, from the start.
        partial.restart()?;
        watch(Step::Again(0));
        partial.fill(client, commit, patience, watch)?;
    }
    if !partial.is_right() {
        let _ = fs::remove_file(&path);
        return Err(Error::new(
            Kind::File,
            format!(
                "{}: the content has another checksum than the repository lists, and was removed; try again, or another mirror",
                file.path
            ),
        ));
    }
    let blob = cache.blob(&file.checksum);
    partial
        .handle
        .sync_all()
        .and_then(|()| fs::rename(&path, &blob))
        .map_err(|error| unwritable(&blob, &error))?;
    watch(Step::Done);
    Ok(())
}

/// Takes the lock, which the system gives back when the process ends, however it ends.
fn take(lock: &Handle, blob: &Path, name: &str, watch: &mut dyn FnMut(Step<'_>)) -> Result<()> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            watch(Step::Waiting { file: name });
            lock.lock().map_err(|error| unwritable(blob, &error))
        }
        // Some network file systems know no locks: the checksum still guards the result.
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(unwritable(blob, &error)),
    }
}

/// Content so far, with its hash.
struct Partial<'a> {
    path: &'a Path,
    file: &'a File,
    handle: Handle,
    length: u64,
    hasher: Hasher,
}

impl<'a> Partial<'a> {
    /// Opens the part from an earlier run, if it is no longer than the whole.
    fn open(path: &'a Path, file: &'a File) -> Result<Self> {
        let failed = |error: std::io::Error| unwritable(path, &error);
        let handle = OpenOptions::new().create(true).append(true).read(true).open(path).map_err(failed)?;
        let mut partial = Self { path, file, handle, length: 0, hasher: file.checksum.hasher(file.size) };
        let there = partial.handle.metadata().map_err(failed)?.len();
        if there > file.size {
            partial.restart()?;
            return Ok(partial);
        }
        partial.handle.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut buffer = vec![0; CHUNK];
        while partial.length < there {
            let n = partial.handle.read(&mut buffer).map_err(failed)?;
            if n == 0 {
                break;
            }
            partial.hasher.update(&buffer[..n]);
            partial.length += n as u64;
        }
        Ok(partial)
    }

    fn restart(&mut self) -> Result<()> {
        self.handle.set_len(0).map_err(|error| unwritable(self.path, &error))?;
        self.length = 0;
        self.hasher = self.file.checksum.hasher(self.file.size);
        Ok(())
    }

    fn is_right(&self) -> bool {
        self.length == self.file.size && self.hasher.clone().hex() == self.file.checksum.hex()
    }

    /// Fetches the missing bytes, connection after connection, as long as they bring any.
    fn fill(
        &mut self,
        client: &Client,
        commit: &str,
        patience: Patience,
        watch: &mut dyn FnMut(Step<'_>),
    ) -> Result<()> {
        let mut idle = 0;
        while self.length < self.file.size {
            let before = self.length;
            let failure = match self.one_connection(client, commit, watch)? {
                None => continue,
                Some(failure) => failure,
            };
            // A tenth of a MiB is progress. A lower bound would let a very slow line continue for ever.
            idle = if self.length >= before.saturating_add(100 << 10) { 1 } else { idle + 1 };
            if !failure.passing || idle >= patience.attempts {
                return Err(self.gave_up(&failure));
            }
            std::thread::sleep(patience.pause.saturating_mul(1 << (idle - 1).min(6)));
            watch(Step::Again(self.length));
        }
        Ok(())
    }

    /// Makes one request and writes its bytes. Returns the failure that ended it early, if there was one.
    fn one_connection(
        &mut self,
        client: &Client,
        commit: &str,
        watch: &mut dyn FnMut(Step<'_>),
    ) -> Result<Option<Failure>> {
        let Self { file, .. } = *self;
        let mut content = match client.content(commit, &file.path, self.length, file.size) {
            Ok(Some(content)) => content,
            Ok(None) => {
                self.restart()?;
                return Ok(Some(broken(file, "it cannot continue there", true)));
            }
            Err(failure) => return Ok(Some(failure)),
        };
        if content.from != self.length {
            self.restart()?;
        }
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = match content.body.read(&mut buffer) {
                Ok(0) if self.length == file.size => return Ok(None),
                Ok(0) => return Ok(Some(broken(file, "the connection ended early", true))),
                Ok(n) => n,
                Err(error) => return Ok(Some(broken(file, &error.to_string(), true))),
            };
            if self.length + n as u64 > file.size {
                let _ = fs::remove_file(self.path);
                return Ok(Some(broken(file, "more bytes came than the repository lists", false)));
            }
            self.handle.write_all(&buffer[..n]).map_err(|error| unwritable(self.path, &error))?;
            self.hasher.update(&buffer[..n]);
            self.length += n as u64;
            watch(Step::At(self.length));
        }
    }

    fn gave_up(&self, failure: &Failure) -> Error {
        let rest = match failure.passing {
            true => {
                format!(" ({} of {} bytes are there; run it again to go on)", self.length, self.file.size)
            }
            false => String::new(),
        };
        Error::new(failure.error.kind(), format!("{}{rest}", failure.error))
    }
}

fn broken(file: &File, reason: &str, passing: bool) -> Failure {
    let line = format!("{}: the download broke off: {reason}", file.path);
    Failure { error: Error::new(Kind::File, line), unreachable: false, passing }
}
