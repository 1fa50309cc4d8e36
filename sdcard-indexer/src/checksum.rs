//! CRC-32 as zlib has it: what frames on the wire and records of the index's log are checked with.
//!
//! By instructions made for it where a processor has them. 32-bit ARM has none, and `crc32fast` would bring 32 KiB of
//! tables onto a camera to be faster than any card: there it is done byte by byte, over 1 KiB.

/// Over all of these, one behind the other.
pub fn crc32(parts: &[&[u8]]) -> u32 {
    #[cfg(not(target_arch = "arm"))]
    {
        let mut hasher = crc32fast::Hasher::new();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize()
    }
    #[cfg(target_arch = "arm")]
    bytewise::crc32(parts)
}

#[cfg(any(test, target_arch = "arm"))]
mod bytewise {
    /// Of x^32 + x^26 + … + 1, the lowest bit first.
    const POLYNOMIAL: u32 = 0xedb8_8320;

    static TABLE: [u32; 256] = table();

    const fn table() -> [u32; 256] {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < table.len() {
            let mut remainder = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                let divides = if remainder & 1 == 1 { POLYNOMIAL } else { 0 };
                remainder = remainder >> 1 ^ divides;
                bit += 1;
            }
            table[byte] = remainder;
            byte += 1;
        }
        table
    }

    pub fn crc32(parts: &[&[u8]]) -> u32 {
        let next = |crc: u32, byte: &u8| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)];
        !parts.iter().fold(u32::MAX, |crc, part| part.iter().fold(crc, next))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_ways_give_the_checksum_that_the_catalogue_of_crcs_gives_for_its_example() {
        let (head, tail) = b"123456789".split_at(4);
        assert_eq!(crc32(&[head, tail]), 0xcbf4_3926);
        assert_eq!(bytewise::crc32(&[head, tail]), 0xcbf4_3926);
    }

    proptest! {
        #[test]
        fn both_ways_agree_on_whatever_there_is(
            head in prop::collection::vec(any::<u8>(), 0..100),
            tail in prop::collection::vec(any::<u8>(), 0..1_000),
        ) {
            prop_assert_eq!(crc32(&[&head, &tail]), bytewise::crc32(&[&head, &tail]));
        }
    }
}
