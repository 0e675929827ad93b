use std::fmt;
use std::path::{Path, PathBuf};

/// Why the patched tree could not be made. Each displays as one line that ends in what to do.
#[derive(Debug)]
pub enum Error {
    /// A file or directory could not be read or written.
    Io { path: PathBuf, source: std::io::Error },
    /// The registry serves, or the cache holds, another crate than the lock file pins.
    Checksum { lock: PathBuf, said: String },
    /// The package that pins the crate is not there.
    NoPin { manifest: PathBuf },
    /// Cargo could not provide the pinned crate for another reason.
    Fetch { manifest: PathBuf, said: String },
    /// The series names a patch that is not there.
    MissingPatch { series: PathBuf, patch: String },
    /// A patch lies beside the series that does not name it, or names it twice.
    SeriesEntry { series: PathBuf, patch: String, fault: &'static str },
    /// A patch is not a well-formed unified diff of existing files.
    Damaged { patch: PathBuf, fault: String },
    /// A patch is well-formed but does not fit the tree at the place it states.
    Misfit { patch: PathBuf, file: String, hunk: String, fault: String },
    /// An overlay file would replace one of upstream's.
    Shadows { overlay: PathBuf, file: String },
}

const RESTORE: &str = "restore patches/ (the series file's order included) from version control, \
                       or make the series anew with tools/patches.sh";

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io { path: path.to_path_buf(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Checksum { lock, said } => write!(
                f,
                "llama-cpp-sys-2 is not the crate whose checksum {} pins ({said}): restore that \
                 file from version control; if it is untouched, remove the crate from cargo's \
                 cache and build again",
                lock.display()
            ),
            Self::NoPin { manifest } => write!(
                f,
                "{} is missing, as after a plain `cargo vendor`, which empties vendor/: restore vendor/ from \
                 version control, and give `cargo vendor` another directory (docs/native-build.md)",
                manifest.display()
            ),
            Self::Fetch { manifest, said } => write!(
                f,
                "cargo cannot provide the crate that {0} pins ({said}): the first build needs access to the \
                 crate registry; to build offline after that, fetch this lock file too: `cargo fetch \
                 --locked --manifest-path {0}`",
                manifest.display()
            ),
            Self::MissingPatch { series, patch } => {
                write!(f, "{} names {patch}, which is not there: {RESTORE}", series.display())
            }
            Self::SeriesEntry { series, patch, fault } => {
                write!(f, "{}: {patch} {fault}: {RESTORE}", series.display())
            }
            Self::Damaged { patch, fault } => {
                write!(f, "{} is damaged: {fault}: {RESTORE}", patch.display())
            }
            Self::Misfit { patch, file, hunk, fault } => {
                write!(f, "{} does not fit {file} at hunk {hunk}: {fault}: {RESTORE}", patch.display())
            }
            Self::Shadows { overlay, file } => write!(
                f,
                "{} holds {file}, which upstream has too: the overlay is for new files, so change \
                 this one with a patch (patches/README.md)",
                overlay.display()
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
