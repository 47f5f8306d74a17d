//! S3 and everything that speaks like it.
//!
//! Bodies are always whole [`Bytes`]: a streaming body makes the SDK send `aws-chunked` framing with trailers, which
//! several stores reject and one stored inside the object. Checksums are sent as plain headers
//! ([`ChecksumMode`]), so a store refuses what changed on the way; our own SHA-256 stands in the manifest either way. A lost reply to a completion is resolved by
//! looking at the object. Retries are left to [`crate::storage::retry`], so that they are counted in one place.
//!
//! API: <https://docs.aws.amazon.com/AmazonS3/latest/API/>, limits:
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.

mod client;
mod errors;
mod http;
mod md5;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart, GlacierJobParameters, ObjectLockLegalHoldStatus, RestoreRequest,
    ServerSideEncryption, StorageClass, Tier,
};
use bytes::Bytes;
use jiff::Timestamp;

use self::md5::Md5;

use crate::base::error::{Context, Error, ErrorKind, Result};
use crate::base::exact;
use crate::storage::{
    Capabilities, ListPage, ObjectKey, ObjectMeta, ObjectOptions, ObjectStore, OpenUpload, PartReceipt, PutMode,
    Readiness, ThawSpeed, UploadId,
};

/// Parts per upload at most; some stores allow 1,000 only, which [`S3Options::max_parts`] says.
const MAX_PARTS: u32 = 10_000;

/// Smallest part but the last, in bytes.
pub const MIN_PART_BYTES: usize = 5 << 20;

/// The largest part that is sent, in bytes: a part waits in memory, and one that is lost is sent again whole.
pub const MAX_PART_BYTES: usize = 256 << 20;

/// Which checksum goes with each part as a header, beside the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumMode {
    /// CRC-32 towards AWS itself, `Content-MD5` towards other stores, which all know that one.
    #[default]
    Auto,
    /// CRC-32 of each body, computed by the SDK and sent as `x-amz-checksum-crc32`.
    Crc32,
    /// SHA-256 of each body, computed by the SDK and sent as `x-amz-checksum-sha256`.
    Sha256,
    /// None.
    None,
}

/// Server-side encryption of new objects.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// `AES256`: keys managed by the store.
    Aes256,
    /// `aws:kms`, with the key's id or the account's default key.
    Kms(Option<String>),
}

/// How to reach a bucket.
#[derive(Clone, Default)]
pub struct S3Options {
    /// Bucket name.
    pub bucket: String,
    /// Prefix of every key, without slashes at its ends; may be empty.
    pub prefix: String,
    /// Endpoint of an S3-compatible store, `http://127.0.0.1:9000`; AWS when `None`.
    pub endpoint: Option<String>,
    /// Region; from the environment or profile, else `us-east-1`.
    pub region: Option<String>,
    /// Path style (`endpoint/bucket/key`); on by default when an endpoint is given.
    pub path_style: Option<bool>,
    /// Static access key and secret; the credential chain (environment, profile, web identity, container, instance)
    /// when `None`.
    pub access_key: Option<(String, String)>,
    /// Server-side encryption of new objects.
    pub encryption: Option<Encryption>,
    /// Checksums of bodies.
    pub checksums: ChecksumMode,
    /// Certificates of the only authorities that the store's may come from; the system's and those of `AWS_CA_BUNDLE` when
    /// `None`.
    pub ca_file: Option<PathBuf>,
    /// Parts per upload at most, where the store allows fewer than 10,000.
    pub max_parts: Option<u32>,
    /// Part size used for the attempt timeout, in bytes (8 MiB when 0).
    pub part_bytes: usize,
}

impl std::fmt::Debug for S3Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out.
        f.debug_struct("S3Options")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// A bucket (or a prefix of one).
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    options: S3Options,
    /// Whether the store once refused If-None-Match itself: then it is not sent any more.
    unconditional: AtomicBool,
    /// Whether the store's entity tags are something else than the MD5 of what it got.
    other_tags: AtomicBool,
    clock: Arc<client::ServerClock>,
}

impl S3Store {
    /// Makes a client; nothing is sent yet, except where the credential chain has to ask an instance service.
    pub async fn connect(options: S3Options) -> Result<Self> {
        let clock = Arc::new(client::ServerClock::default());
        let client = client::build(&options, Arc::clone(&clock)).await?;
        Ok(Self {
            client,
            options,
            unconditional: AtomicBool::new(false),
            other_tags: AtomicBool::new(false),
            clock,
        })
    }

    fn key(&self, key: &str) -> String {
        if self.options.prefix.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.options.prefix)
        }
    }

    fn relative<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.options.prefix.is_empty() {
            return Some(key);
        }
        key.strip_prefix(self.options.prefix.as_str())?.strip_prefix('/')
    }

    fn if_none_match(&self, mode: PutMode) -> Option<String> {
        (mode == PutMode::Create && !self.unconditional.load(Ordering::Relaxed)).then(|| "*".to_owned())
    }

    /// Puts an object; returns the entity tag.
    async fn put_once(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
        options: &ObjectOptions,
        md5: Option<&Md5>,
    ) -> Result<Option<String>> {
        let (encryption, kms_key) = self.encryption();
        let request = self
            .client
            .put_object()
            .bucket(&self.options.bucket)
            .key(self.key(key.as_str()));
        let request = request
            .set_if_none_match(self.if_none_match(mode))
            .set_storage_class(storage_class(options));
        let request = request
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(kms_key)
            .set_checksum_algorithm(client::checksum_algorithm(&self.options))
            .set_content_md5(md5.map(Md5::header));
        let sent = client::send!(self, request.body(ByteStream::from(body)));
        sent.map(|sent| sent.e_tag)
            .map_err(|error| self.failed("write", key.as_str(), error))
    }

    /// Returns the MD5 that goes with a body, where one does.
    async fn md5(&self, body: &Bytes) -> Result<Option<Md5>> {
        if self.options.endpoint.is_none() || self.options.checksums != ChecksumMode::Auto {
            return Ok(None);
        }
        Md5::of(body.clone()).await.map(Some)
    }

    /// Whether the store's answer says that other bytes arrived. Stores mostly give the MD5 of what they got as its entity tag.
    /// One that never does is known from the repetition, which has another tag, too.
    fn got_others(&self, md5: Option<&Md5>, tag: Option<&str>) -> bool {
        let encrypted = matches!(self.options.encryption, Some(Encryption::Kms(_)));
        let known = !encrypted && !self.other_tags.load(Ordering::Relaxed);
        known && md5.zip(tag).is_some_and(|(md5, tag)| md5.differs_from(tag))
    }

    async fn send_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        (number, body): (u32, Bytes),
        md5: Option<&Md5>,
    ) -> Result<PartReceipt> {
        let size_bytes = exact::u64_from(body.len());
        let part = i32::try_from(number).map_err(|_| Error::invalid(format!("part number {number}")))?;
        let request = self
            .client
            .upload_part()
            .bucket(&self.options.bucket)
            .key(self.key(key.as_str()));
        let request = request
            .upload_id(&upload.0)
            .part_number(part)
            .set_content_md5(md5.map(Md5::header))
            .body(ByteStream::from(body));
        let request = request.set_checksum_algorithm(client::checksum_algorithm(&self.options));
        let sent = client::send!(self, request).map_err(|error| self.failed("upload part of", key.as_str(), error))?;
        let etag = sent
            .e_tag
            .ok_or_else(|| Error::unsupported(format!("the store returned no ETag for part {number}")))?;
        let crc32 = sent.checksum_crc32.map(|value| ("crc32".to_owned(), value));
        let checksum = crc32.or(sent.checksum_sha256.map(|value| ("sha256".to_owned(), value)));
        Ok(PartReceipt {
            number,
            etag,
            size_bytes,
            checksum,
        })
    }

    fn failed<E, R>(&self, act: &str, key: &str, error: aws_sdk_s3::error::SdkError<E, R>) -> Error
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: errors::Status + std::fmt::Debug + Send + Sync + 'static,
    {
        errors::classify(&self.options, act, key, error)
    }

    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.options.encryption {
            None => (None, None),
            Some(Encryption::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Encryption::Kms(id)) => (Some(ServerSideEncryption::AwsKms), id.clone()),
        }
    }
}

fn storage_class(options: &ObjectOptions) -> Option<StorageClass> {
    options.storage_class.as_deref().map(StorageClass::from)
}

fn timestamp(time: Option<&aws_sdk_s3::primitives::DateTime>) -> Timestamp {
    time.and_then(|t| Timestamp::new(t.secs(), 0).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Object lock: a retention with its end, or a legal hold, which has none. Both are told only to credentials with
/// `s3:GetObjectRetention` and `s3:GetObjectLegalHold`.
fn locked_until(head: &HeadObjectOutput) -> Option<Timestamp> {
    if head.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On) {
        return Some(Timestamp::MAX);
    }
    let until = head.object_lock_retain_until_date()?;
    Some(Timestamp::new(until.secs(), 0).unwrap_or(Timestamp::MAX))
}

/// What must be thawed: the classes GLACIER and DEEP_ARCHIVE (GLACIER_IR is read at once), and what an intelligent tiering
/// has put into its archive tiers. `x-amz-restore` tells of a copy: `ongoing-request="true"` until it is there.
fn readiness(head: &HeadObjectOutput) -> Readiness {
    let class = head.storage_class().map(StorageClass::as_str).unwrap_or_default();
    let tier = head.archive_status().map(aws_sdk_s3::types::ArchiveStatus::as_str);
    let class = match (class, tier) {
        ("GLACIER" | "DEEP_ARCHIVE", _) => class.to_owned(),
        (_, Some(tier)) => tier.to_owned(),
        (_, None) => return Readiness::Ready,
    };
    match head.restore() {
        Some(copy) if copy.contains("ongoing-request=\"true\"") => Readiness::Thawing { class },
        Some(copy) if copy.contains("ongoing-request=\"false\"") => Readiness::Ready,
        _ => Readiness::Cold { class },
    }
}

fn size(length: Option<i64>) -> u64 {
    length.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

#[async_trait]
impl ObjectStore for S3Store {
    fn location(&self) -> String {
        let slash = if self.options.prefix.is_empty() { "" } else { "/" };
        format!("s3://{}{slash}{}", self.options.bucket, self.options.prefix)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_parts: Some(self.options.max_parts.unwrap_or(MAX_PARTS)),
            min_part_bytes: MIN_PART_BYTES,
            conditional_create: self.unconditional.load(Ordering::Relaxed).then_some(false),
            lists_uploads: true,
            deletes: true,
        }
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode, options: &ObjectOptions) -> Result<()> {
        let md5 = self.md5(&body).await?;
        let md5 = md5.as_ref();
        let mut tag = match self.put_once(key, body.clone(), mode, options, md5).await {
            // Some stores answer "not implemented" to the condition itself.
            Err(error) if error.kind() == ErrorKind::Unsupported && self.if_none_match(mode).is_some() => {
                self.unconditional.store(true, Ordering::Relaxed);
                self.put_once(key, body.clone(), mode, options, md5).await
            }
            done => done,
        }?;
        if self.got_others(md5, tag.as_deref()) {
            // What is there now is ours, so the condition of a creation would meet itself.
            tag = self.put_once(key, body, PutMode::Overwrite, options, md5).await?;
            if self.got_others(md5, tag.as_deref()) {
                self.other_tags.store(true, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn read_range(&self, key: &ObjectKey, range: Range<u64>, buffer: &mut Vec<u8>) -> Result<()> {
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            return Ok(());
        };
        let request = self
            .client
            .get_object()
            .bucket(&self.options.bucket)
            .key(self.key(key.as_str()));
        let got = request.range(format!("bytes={}-{last}", range.start)).send().await;
        let mut body = got.map_err(|error| self.failed("read", key.as_str(), error))?.body;
        let before = buffer.len();
        let wanted = range.end - range.start;
        let read = async {
            while let Some(piece) = body.next().await {
                let piece =
                    piece.map_err(|error| Error::new(ErrorKind::Unavailable, "connection lost").with_cause(error))?;
                buffer.extend_from_slice(&piece);
                let so_far = exact::u64_from(buffer.len() - before);
                if so_far > wanted {
                    return Err(Error::corrupt(format!(
                        "the store sent more than the {wanted} bytes requested"
                    )));
                }
            }
            let got = exact::u64_from(buffer.len() - before);
            if got < wanted {
                Err(Error::corrupt(format!("got {got} bytes instead of {wanted}")))
            } else {
                Ok(())
            }
        };
        let result = read.await.with_context(|| format!("read object \"{key}\""));
        if result.is_err() {
            buffer.truncate(before);
        }
        result
    }

    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Bytes> {
        let request = self
            .client
            .get_object()
            .bucket(&self.options.bucket)
            .key(self.key(key.as_str()));
        let got = request
            .send()
            .await
            .map_err(|error| self.failed("read", key.as_str(), error))?;
        let too_large = |size: u64| {
            let message = format!("object \"{key}\" has {size} bytes or more, more than the expected {max_bytes}");
            Error::new(ErrorKind::LimitExceeded, message)
        };
        if size(got.content_length) > max_bytes {
            return Err(too_large(size(got.content_length)));
        }
        let mut body = got.body;
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await {
            let lost = |error| Error::new(ErrorKind::Unavailable, format!("read object \"{key}\"")).with_cause(error);
            bytes.extend_from_slice(&piece.map_err(lost)?);
            let so_far = exact::u64_from(bytes.len());
            if so_far > max_bytes {
                return Err(too_large(so_far));
            }
        }
        Ok(Bytes::from(bytes))
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let request = self
            .client
            .head_object()
            .bucket(&self.options.bucket)
            .key(self.key(key.as_str()));
        let head = request
            .send()
            .await
            .map_err(|error| self.failed("look at", key.as_str(), error))?;
        let modified = timestamp(head.last_modified.as_ref());
        Ok(ObjectMeta {
            key: key.clone(),
            size_bytes: size(head.content_length),
            modified,
            locked_until: locked_until(&head),
            readiness: readiness(&head),
        })
    }

    async fn thaw(&self, key: &ObjectKey, speed: ThawSpeed, days: u32) -> Result<()> {
        let tier = match speed {
            ThawSpeed::Expedited => Tier::Expedited,
            ThawSpeed::Standard => Tier::Standard,
            ThawSpeed::Bulk => Tier::Bulk,
        };
        let job = GlacierJobParameters::builder().tier(tier).build();
        let job = job.map_err(|error| Error::invalid("a request cannot be written").with_cause(error))?;
        // An intelligent tiering moves the object itself, for good: no days.
        let tiering = self.head(key).await?.readiness;
        let tiering = matches!(tiering, Readiness::Cold { class } if class.ends_with("_ACCESS"));
        let wanted = RestoreRequest::builder()
            .set_days((!tiering).then(|| exact::saturating_i32(days)))
            .glacier_job_parameters(job);
        let request = self
            .client
            .restore_object()
            .bucket(&self.options.bucket)
            .key(self.key(key.as_str()));
        let sent = request.restore_request(wanted.build()).send().await;
        match sent.map_err(|error| self.failed("thaw", key.as_str(), error)) {
            // It is being thawed already.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            done => done.map(drop),
        }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let request = self
            .client
            .delete_object()
            .bucket(&self.options.bucket)
            .key(self.key(key.as_str()));
        match request
            .send()
            .await
            .map_err(|error| self.failed("remove", key.as_str(), error))
        {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn list(&self, prefix: &str, next: Option<String>) -> Result<ListPage> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.options.bucket)
            .prefix(self.key(prefix));
        let sent = request.set_continuation_token(next).send().await;
        let page = sent.map_err(|error| self.failed("list", prefix, error))?;
        let mut objects = Vec::with_capacity(page.contents().len());
        for object in page.contents() {
            // Keys that are not ours (a foreign object beside the repository) are none of our business.
            let key = object
                .key()
                .and_then(|key| self.relative(key))
                .and_then(|key| ObjectKey::new(key).ok());
            let Some(key) = key else { continue };
            objects.push(ObjectMeta {
                key,
                size_bytes: size(object.size()),
                modified: timestamp(object.last_modified()),
                locked_until: None,
                readiness: Readiness::Ready,
            });
        }
        let next = page.next_continuation_token.filter(|_| page.is_truncated == Some(true));
        Ok(ListPage { objects, next })
    }

    async fn create_upload(&self, key: &ObjectKey, options: &ObjectOptions) -> Result<UploadId> {
        let (encryption, kms_key) = self.encryption();
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.options.bucket)
            .key(self.key(key.as_str()));
        let request = request.set_storage_class(storage_class(options));
        let request = request.set_checksum_algorithm(client::checksum_algorithm(&self.options));
        let request = request
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(kms_key);
        let created = request
            .send()
            .await
            .map_err(|error| self.failed("begin upload of", key.as_str(), error))?;
        let id = created.upload_id.filter(|id| !id.is_empty());
        id.map(UploadId)
            .ok_or_else(|| Error::unsupported("the store returned no upload id"))
    }

    async fn put_part(&self, key: &ObjectKey, upload: &UploadId, number: u32, body: Bytes) -> Result<PartReceipt> {
        let md5 = self.md5(&body).await?;
        let receipt = self
            .send_part(key, upload, (number, body.clone()), md5.as_ref())
            .await?;
        if !self.got_others(md5.as_ref(), Some(&receipt.etag)) {
            return Ok(receipt);
        }
        // The same number again replaces the part.
        let receipt = self.send_part(key, upload, (number, body), md5.as_ref()).await?;
        if self.got_others(md5.as_ref(), Some(&receipt.etag)) {
            self.other_tags.store(true, Ordering::Relaxed);
        }
        Ok(receipt)
    }

    async fn complete_upload(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[PartReceipt],
        mode: PutMode,
    ) -> Result<()> {
        let completed = parts.iter().map(|receipt| {
            let part = CompletedPart::builder().e_tag(&receipt.etag);
            let part = part.set_part_number(i32::try_from(receipt.number).ok());
            match &receipt.checksum {
                Some((name, value)) if name == "crc32" => part.checksum_crc32(value).build(),
                Some((name, value)) if name == "sha256" => part.checksum_sha256(value).build(),
                _ => part.build(),
            }
        });
        let list = CompletedMultipartUpload::builder()
            .set_parts(Some(completed.collect()))
            .build();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.options.bucket)
            .key(self.key(key.as_str()));
        let request = request
            .upload_id(&upload.0)
            .multipart_upload(list)
            .set_if_none_match(self.if_none_match(mode));
        let Err(error) = request.send().await else {
            return Ok(());
        };
        let error = self.failed("complete upload of", key.as_str(), error);
        if error.kind() == ErrorKind::AlreadyExists {
            return Err(error);
        }
        // The reply may have been lost after the object was made (then a repetition says "no such upload"). Keys are
        // unique per run, so an object of the right size under this key is ours.
        let expected: u64 = parts.iter().map(|receipt| receipt.size_bytes).sum();
        match self.head(key).await {
            Ok(meta) if meta.size_bytes == expected => Ok(()),
            _ => Err(error),
        }
    }

    async fn abort_upload(&self, key: &ObjectKey, upload: &UploadId) -> Result<()> {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.options.bucket)
            .key(self.key(key.as_str()));
        match request
            .upload_id(&upload.0)
            .send()
            .await
            .map_err(|error| self.failed("abort upload of", key.as_str(), error))
        {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>> {
        let mut found = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let request = self
                .client
                .list_multipart_uploads()
                .bucket(&self.options.bucket)
                .prefix(self.key(prefix));
            let sent = request
                .set_key_marker(key_marker)
                .set_upload_id_marker(id_marker)
                .send()
                .await;
            let page = sent.map_err(|error| self.failed("list uploads under", prefix, error))?;
            for upload in page.uploads() {
                let key = upload
                    .key()
                    .and_then(|key| self.relative(key))
                    .and_then(|key| ObjectKey::new(key).ok());
                let (Some(key), Some(id)) = (key, upload.upload_id()) else {
                    continue;
                };
                found.push(OpenUpload {
                    key,
                    id: UploadId(id.to_owned()),
                    initiated: timestamp(upload.initiated()),
                });
            }
            if page.is_truncated != Some(true) || page.next_key_marker.is_none() {
                return Ok(found);
            }
            (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
        }
    }

    async fn now(&self) -> Result<Timestamp> {
        // Any answer carries the server's Date, a refusal too; an earlier answer's does not count.
        self.clock.take();
        let request = self.client.list_objects_v2().bucket(&self.options.bucket).max_keys(1);
        let sent = tokio::time::timeout(
            Duration::from_secs(60),
            request.prefix(self.key("repository.json")).send(),
        )
        .await;
        match (self.clock.take(), sent) {
            (Some(time), _) => Ok(time),
            (None, Ok(Err(error))) => Err(self.failed("get the time of", &self.options.bucket, error)),
            (None, _) => Err(Error::new(
                ErrorKind::TimedOut,
                "the store's answer carried no Date header",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::DateTime;

    use super::*;

    #[test]
    fn a_retention_and_a_legal_hold_lock_an_object() {
        let head = HeadObjectOutput::builder;
        assert_eq!(locked_until(&head().build()), None);
        let until = head().object_lock_retain_until_date(DateTime::from_secs(1000)).build();
        assert_eq!(locked_until(&until), Timestamp::from_second(1000).ok());
        let held = head()
            .object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On)
            .build();
        assert_eq!(locked_until(&held), Some(Timestamp::MAX));
    }

    #[test]
    fn what_lies_in_a_cold_class_is_known_and_what_becomes_of_it() {
        let head = |class: &str| HeadObjectOutput::builder().storage_class(class.into());
        for class in ["STANDARD", "STANDARD_IA", "GLACIER_IR", "INTELLIGENT_TIERING"] {
            assert_eq!(readiness(&head(class).build()), Readiness::Ready, "{class}");
        }
        let class = || "DEEP_ARCHIVE".to_owned();
        assert_eq!(readiness(&head(&class()).build()), Readiness::Cold { class: class() });
        let asked = head(&class()).restore("ongoing-request=\"true\"").build();
        assert_eq!(readiness(&asked), Readiness::Thawing { class: class() });
        let copy = "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"";
        assert_eq!(readiness(&head(&class()).restore(copy).build()), Readiness::Ready);
        let tiered = head("INTELLIGENT_TIERING")
            .archive_status("ARCHIVE_ACCESS".into())
            .build();
        assert!(matches!(readiness(&tiered), Readiness::Cold { class } if class == "ARCHIVE_ACCESS"));
    }
}
