//! Files that a person names. Opening one never waits for a pipe's other end, and never takes a device.

use std::fs::File;
use std::io::{self, Chain, Cursor, ErrorKind, Read};
use std::path::Path;

/// Bytes of a file or a pipe, from the first on.
pub type Input = Chain<Cursor<Vec<u8>>, File>;

/// Opens a file, or a pipe that another program writes to: `<(command)` of a shell is one.
///
/// # Errors
/// One line about a file that is missing or cannot be read, a folder, a device, and a pipe without a writer.
pub fn open(path: &Path) -> io::Result<Input> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
            return piped(path).map_err(plain);
        }
    }
    Ok(Cursor::new(Vec::new()).chain(regular(path)?))
}

/// Opens a file that can be sought in.
///
/// # Errors
/// As [`open`], and for every pipe.
pub fn regular(path: &Path) -> io::Result<File> {
    // This check comes before opening, which would wait for a pipe's other end.
    let metadata = path.metadata().map_err(plain)?;
    if metadata.is_dir() {
        return Err(io::Error::new(ErrorKind::IsADirectory, "is a folder; give a file"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("is a pipe or a device; save it as a file first"));
    }
    File::open(path).map_err(plain)
}

/// Reads the text of a file or a pipe.
///
/// # Errors
/// As [`open`], and for bytes that are not UTF-8.
pub fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => io::Error::new(ErrorKind::InvalidData, "is no text in UTF-8"),
        _ => error,
    })?;
    Ok(text)
}

#[cfg(unix)]
fn piped(path: &Path) -> io::Result<Input> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    let mut first = vec![0];
    match file.read(&mut first) {
        // There is no end to read: the pipe has no writer, or its writer left without a byte.
        Ok(0) => return Err(io::Error::other("is a pipe without a writer; give a file")),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::WouldBlock => first.clear(),
        Err(error) => return Err(error),
    }
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(Cursor::new(first).chain(file))
}

/// Returns the usual reasons without the system's numbers.
fn plain(error: io::Error) -> io::Error {
    let text = match error.kind() {
        ErrorKind::NotFound => "no such file",
        ErrorKind::PermissionDenied => "permission denied",
        _ => return error,
    };
    io::Error::new(error.kind(), text)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn files_pipes_and_what_is_neither() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("text"), "hello").unwrap();
        std::fs::write(path("bytes"), b"\xff\xfe").unwrap();
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap();
        assert!(made.success());
        assert_eq!(text(&path("text")).unwrap(), "hello");
        for (file, part) in [
            (path("pipe"), "pipe without a writer"),
            (path("bytes"), "no text in UTF-8"),
            (path("none"), "no such file"),
            (folder.path().to_owned(), "is a folder"),
            ("/dev/zero".into(), "a device"),
        ] {
            let error = text(&file).unwrap_err().to_string();
            assert!(error.contains(part), "{}: {error}", file.display());
        }
        assert!(regular(&path("pipe")).is_err());

        // A slow writer is waited for.
        let pipe = path("pipe");
        let mut shell = std::process::Command::new("sh");
        let writer = shell.arg("-c").arg("exec 3>\"$0\"; sleep 0.2; printf hello >&3").arg(&pipe);
        let mut writer = writer.spawn().unwrap();
        let read = loop {
            match text(&pipe) {
                Ok(read) => break read,
                Err(error) => assert!(error.to_string().contains("without a writer"), "{error}"),
            }
        };
        assert_eq!(read, "hello");
        assert!(writer.wait().unwrap().success());
    }
}
