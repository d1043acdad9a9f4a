//! The bytes of objects. Blobs are called by their object's version, a UUID of ours: no client's name ever becomes
//! a path.

use std::{
    fmt::Write as _,
    fs::DirBuilder,
    ops::Range,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::BoxStream};
use md5::{Digest, Md5};
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, buffered::BufWriter, local::LocalFileSystem,
    path::Path as Location,
};
use uuid::Uuid;

use super::error::{Error, Result};

/// Bytes gathered before they are written: many uploads at once must not fill the memory. (S3 would take no parts
/// below 5 MiB.)
const PART: usize = 256 << 10;
/// Parts being written while the next is gathered.
const PARTS_AT_ONCE: usize = 1;
/// A client that sends nothing for this long has gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Where blobs are.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    folder: PathBuf,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Bytes.
    pub size: u64,
    /// MD5 of the bytes in double quotes, as HTTP has it.
    pub etag: String,
}

impl Blobs {
    /// Blobs in a folder, which is made if missing, for this account's eyes only. A blob once written outlives a
    /// power failure.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        let explain = || format!("use {} for uploaded files", folder.display());
        if !folder.exists() {
            std::fs::create_dir_all(folder.parent().unwrap_or(folder)).with_context(explain)?;
            DirBuilder::new().mode(0o700).create(folder).with_context(explain)?;
        }
        let store = LocalFileSystem::new_with_prefix(folder)
            .with_context(explain)?
            .with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
            folder: folder.to_owned(),
        })
    }

    /// Whether the folder is there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn check(&self) -> Result<()> {
        tokio::fs::metadata(&self.folder).await.map_err(local)?;
        Ok(())
    }

    /// Writes a blob from a stream; nobody sees it before it is whole.
    ///
    /// # Errors
    /// [`Error::EntityTooLarge`] beyond `limit` bytes, the stream's error, [`Error::Interrupted`] when it pauses for
    /// too long. Then nothing is left behind.
    pub async fn write(
        &self,
        version: Uuid,
        mut body: impl Stream<Item = Result<Bytes>> + Unpin,
        limit: u64,
    ) -> Result<Written> {
        let mut writer = BufWriter::with_capacity(Arc::clone(&self.store), location(version), PART)
            .with_max_concurrency(PARTS_AT_ONCE);
        let mut digest = Md5::new();
        let mut size = 0;
        let outcome = loop {
            let chunk = match tokio::time::timeout(SILENCE, body.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => break Err(error),
                Ok(None) => break Ok(()),
                Err(_) => break Err(Error::Interrupted),
            };
            size += chunk.len() as u64;
            if size > limit {
                break Err(Error::EntityTooLarge);
            }
            digest.update(&chunk);
            if let Err(error) = writer.put(chunk).await {
                break Err(error.into());
            }
        };
        if let Err(error) = outcome {
            if let Err(abort) = writer.abort().await {
                tracing::warn!(error = %abort, "storage: an unfinished upload could not be removed");
            }
            return Err(error);
        }
        tokio::io::AsyncWriteExt::shutdown(&mut writer).await.map_err(local)?;
        let mut etag = String::with_capacity(34);
        etag.push('"');
        for byte in digest.finalize() {
            let _ = write!(etag, "{byte:02x}");
        }
        etag.push('"');
        Ok(Written { size, etag })
    }

    /// A blob's bytes, all or a range of them, and how many they are.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] if it is missing.
    pub async fn read(
        &self,
        version: Uuid,
        range: Option<Range<u64>>,
    ) -> Result<(u64, BoxStream<'static, object_store::Result<Bytes>>)> {
        let options = GetOptions {
            range: range.map(GetRange::Bounded),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&location(version), options).await;
        let found = found.map_err(missing)?;
        Ok((found.range.end - found.range.start, found.into_stream()))
    }

    /// A blob's size in bytes.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] if it is missing.
    pub async fn size(&self, version: Uuid) -> Result<u64> {
        Ok(self.store.head(&location(version)).await.map_err(missing)?.size)
    }

    /// Copies a blob.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] if it is missing.
    pub async fn copy(&self, from: Uuid, to: Uuid) -> Result<()> {
        self.store.copy(&location(from), &location(to)).await.map_err(missing)
    }

    /// Deletes a blob and what an interrupted upload of it left; one that is not there is fine.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, version: Uuid) -> Result<()> {
        let location = location(version);
        match self.store.delete(&location).await {
            Ok(()) => Ok(()),
            Err(object_store::Error::NotFound { .. }) => self.delete_staged(&location).await,
            Err(error) => Err(error.into()),
        }
    }

    /// The local store writes `<name>#<number>` and renames it when whole; killed in between, it leaves that file.
    async fn delete_staged(&self, location: &Location) -> Result<()> {
        let whole = self.folder.join(location.as_ref());
        let (Some(folder), Some(name)) = (whole.parent(), location.filename()) else {
            return Ok(());
        };
        let prefix = format!("{name}#");
        let mut entries = match tokio::fs::read_dir(folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(local(error)),
        };
        while let Some(entry) = entries.next_entry().await.map_err(local)? {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                tokio::fs::remove_file(entry.path()).await.map_err(local)?;
            }
        }
        Ok(())
    }
}

fn missing(error: object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } => Error::NoSuchBlob,
        error => error.into(),
    }
}

fn local(error: std::io::Error) -> Error {
    Error::Blobs(object_store::Error::Generic {
        store: "LocalFileSystem",
        source: Box::new(error),
    })
}

/// Blobs are spread over 256 folders, so that none grows too large to look into.
fn location(version: Uuid) -> Location {
    let name = version.to_string();
    Location::from(format!("{}/{name}", &name[..2]))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn chunks(chunks: Vec<Result<Bytes>>) -> impl Stream<Item = Result<Bytes>> + Unpin {
        stream::iter(chunks)
    }

    fn files(folder: &Path) -> usize {
        let children = std::fs::read_dir(folder).unwrap();
        children
            .map(|child| child.unwrap().path())
            .map(|path| if path.is_dir() { files(&path) } else { 1 })
            .sum()
    }

    async fn read(blobs: &Blobs, version: Uuid, range: Option<Range<u64>>) -> Vec<u8> {
        let (_, mut stream) = blobs.read(version, range).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend(chunk.unwrap());
        }
        bytes
    }

    #[tokio::test]
    async fn a_blob_is_read_whole_and_in_part_until_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::in_folder(folder.path()).unwrap();
        let version = Uuid::new_v4();
        let body = chunks(vec![Ok("hello ".into()), Ok("world".into())]);
        let written = blobs.write(version, body, 11).await.unwrap();
        assert_eq!(
            (written.size, written.etag.as_str()),
            (11, "\"5eb63bbbe01eeed093cb22bb8f5acdc3\"")
        );
        assert_eq!(read(&blobs, version, None).await, b"hello world");
        assert_eq!(read(&blobs, version, Some(6..11)).await, b"world");
        blobs.delete(version).await.unwrap();
        assert!(matches!(blobs.size(version).await, Err(Error::NoSuchBlob)));
        blobs.delete(version).await.unwrap();
    }

    #[tokio::test]
    async fn an_upload_too_large_or_cut_off_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::in_folder(folder.path()).unwrap();
        let large = || Ok(Bytes::from(vec![7; PART]));
        let body = chunks(vec![large(), large(), large()]);
        let refused = blobs.write(Uuid::new_v4(), body, 2 * PART as u64).await;
        assert!(matches!(refused, Err(Error::EntityTooLarge)));
        let body = chunks(vec![large(), large(), Err(Error::Interrupted)]);
        let refused = blobs.write(Uuid::new_v4(), body, u64::MAX).await;
        assert!(matches!(refused, Err(Error::Interrupted)));
        assert_eq!(files(folder.path()), 0);
    }

    #[tokio::test]
    async fn deleting_removes_what_a_killed_upload_left() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::in_folder(folder.path()).unwrap();
        let version = Uuid::new_v4();
        let staged = folder.path().join(format!("{}#1", location(version)));
        std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
        std::fs::write(&staged, "half").unwrap();
        blobs.delete(version).await.unwrap();
        assert_eq!(files(folder.path()), 0);
    }
}
