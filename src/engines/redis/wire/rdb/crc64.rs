//! CRC-64 of RDB files and DUMP payloads: the Jones polynomial, reflected, starting from 0.

/// A running checksum.
#[derive(Clone)]
pub struct Crc64(crc_fast::Digest);

impl std::fmt::Debug for Crc64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crc64({:016x})", self.value())
    }
}

impl Default for Crc64 {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc64 {
    /// Starts from nothing.
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Redis))
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the checksum of all bytes so far.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }

    /// Returns the checksum of one run of bytes.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut crc = Self::new();
        crc.update(bytes);
        crc.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_that_of_the_servers_source() {
        // crc64.c of Redis: "e9c6d914c4b8d9ca" for "123456789".
        assert_eq!(Crc64::of(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let mut crc = Crc64::new();
        for piece in [&b"12"[..], b"", b"3456789"] {
            crc.update(piece);
        }
        assert_eq!(crc.value(), 0xe9c6_d914_c4b8_d9ca);
    }
}
