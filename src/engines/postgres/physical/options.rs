//! Choices of a base backup.

/// How the checkpoint comes with which a base backup begins. Its words are those of `BASE_BACKUP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checkpoint {
    /// At once: dirty pages are written as quickly as the disk takes them.
    #[default]
    Fast,
    /// As the server's own checkpoints, over minutes.
    Spread,
}

/// How files are summed in the backup manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ManifestChecksums {
    /// CRC-32C: finds every accident, and costs the server next to nothing.
    #[default]
    Crc32c,
    /// SHA-256: finds forgery too; the server computes it on one core.
    Sha256,
}

impl ManifestChecksums {
    /// Returns its word in `BASE_BACKUP` and in a backup manifest.
    pub fn manifest_word(self) -> &'static str {
        match self {
            Self::Crc32c => "CRC32C",
            Self::Sha256 => "SHA256",
        }
    }

    /// Reads the word of a backup manifest; `None` if this program asks for no such checksums.
    pub fn of_manifest(word: &str) -> Option<Self> {
        [Self::Crc32c, Self::Sha256]
            .into_iter()
            .find(|one| one.manifest_word() == word)
    }

    /// Returns the bytes of a checksum.
    pub fn bytes(self) -> usize {
        match self {
            Self::Crc32c => 4,
            Self::Sha256 => 32,
        }
    }
}
