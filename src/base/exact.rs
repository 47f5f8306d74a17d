//! Numbers and parts of buffers that are exact or an error: nothing here turns a wrong length into an empty or a largest one.
//!
//! What a store, a network or a backup says goes through [`range`] and [`count`], which fail with the offset and the object.
//! What this program has itself put there goes through [`part`] and its like, whose panic says why it cannot happen. What is
//! only shown, or is a bound anyway, may saturate, through a function whose name says so. The test `slices` refuses everything
//! else in all of the source.

use std::fmt::{Debug, Display};
use std::slice::SliceIndex;
use std::time::Duration;

use crate::base::error::{Error, Result};

const _: () = assert!(
    usize::BITS == 64,
    "sizes of objects and of memory are the same numbers here: build for a platform of 64 bits"
);

/// Returns a count of something in memory as one of something stored. Both have 64 bits.
#[expect(clippy::as_conversions, reason = "lossless: asserted above")]
pub const fn u64_from(count: usize) -> u64 {
    count as u64
}

/// Returns a count of something stored as one of something in memory. Both have 64 bits; whether it fits into the buffer is
/// another question.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "lossless: asserted above"
)]
pub const fn usize_from(count: u64) -> usize {
    count as usize
}

/// Returns a number that a server or a document says, which must not be negative.
pub fn count(said: i64, what: impl Display) -> Result<u64> {
    u64::try_from(said).map_err(|_| Error::corrupt(format!("{what} is {said}")))
}

/// Returns a number in a smaller type.
///
/// # Panics
///
/// Where it does not fit; `why` says why that cannot happen.
#[track_caller]
pub fn known<T, N: TryInto<T, Error: Debug>>(number: N, why: &str) -> T {
    number.try_into().expect(why)
}

/// Returns a part of bytes that came from outside, or whose place did: it may not be there.
pub fn range<R>(whole: &[u8], wanted: R, what: impl Display) -> Result<&[u8]>
where
    R: SliceIndex<[u8], Output = [u8]> + Clone + Debug,
{
    let shown = wanted.clone();
    let missing = || Error::corrupt(format!("{what} has {} bytes, not the range {shown:?}", whole.len()));
    whole.get(wanted).ok_or_else(missing)
}

/// Returns a part that is there.
///
/// # Panics
///
/// Where it is not; `why` says why that cannot happen.
#[track_caller]
pub fn part<'a, T, R: SliceIndex<[T], Output = [T]>>(whole: &'a [T], wanted: R, why: &str) -> &'a [T] {
    whole.get(wanted).expect(why)
}

/// As [`part`], to be written to.
///
/// # Panics
///
/// As [`part`].
#[track_caller]
pub fn part_mut<'a, T, R: SliceIndex<[T], Output = [T]>>(whole: &'a mut [T], wanted: R, why: &str) -> &'a mut [T] {
    whole.get_mut(wanted).expect(why)
}

/// As [`part`], of a text: both ends stand between characters.
///
/// # Panics
///
/// As [`part`].
#[track_caller]
pub fn text<'a, R: SliceIndex<str, Output = str>>(whole: &'a str, wanted: R, why: &str) -> &'a str {
    whole.get(wanted).expect(why)
}

/// Returns what a read has put into a buffer.
///
/// # Panics
///
/// Where a read says that it filled more than it was given.
#[track_caller]
pub fn filled(buffer: &[u8], count: usize) -> &[u8] {
    part(buffer, ..count, "a read fills no more than it is given")
}

/// Returns the first `most` elements, or all where there are fewer.
pub fn first<T>(whole: &[T], most: usize) -> &[T] {
    whole.split_at_checked(most).map_or(whole, |(first, _)| first)
}

/// As [`first`], to be written to.
pub fn first_mut<T>(whole: &mut [T], most: usize) -> &mut [T] {
    let count = whole.len().min(most);
    part_mut(whole, ..count, "no more than there is")
}

/// Returns the last `most` elements, or all where there are fewer.
pub fn last<T>(whole: &[T], most: usize) -> &[T] {
    whole.split_at(whole.len().saturating_sub(most)).1
}

/// Returns the capacity that a list needs for `more` elements: what it has, or an eighth more than they take. With `reserve_exact` a list under a
/// limit grows so, where it would double by itself.
pub fn grown_capacity<T>(list: &Vec<T>, more: usize) -> usize {
    let needed = list.len().saturating_add(more);
    if needed <= list.capacity() {
        list.capacity()
    } else {
        needed.saturating_add(needed / 8).saturating_add(16)
    }
}

/// Returns a number, or the nearest one that the type has: 0 for a negative one.
pub fn saturating_u64(number: impl Into<i128>) -> u64 {
    let number = number.into();
    u64::try_from(number).unwrap_or(if number < 0 { 0 } else { u64::MAX })
}

/// As [`saturating_u64`].
pub fn saturating_u32(number: impl Into<i128>) -> u32 {
    let number = number.into();
    u32::try_from(number).unwrap_or(if number < 0 { 0 } else { u32::MAX })
}

/// As [`saturating_u64`].
pub fn saturating_i64(number: impl Into<i128>) -> i64 {
    let number = number.into();
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

/// As [`saturating_u64`].
pub fn saturating_i32(number: impl Into<i128>) -> i32 {
    let number = number.into();
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}

/// Returns a duration in milliseconds, or the longest that can be said.
pub fn saturating_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a duration as one that may be negative, or the longest that can be said.
pub fn saturating_signed(duration: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::error::ErrorKind;

    #[test]
    fn what_is_not_there_is_an_error_with_offset_and_object() {
        let bytes = *b"abcdef";
        assert_eq!(range(&bytes, 2..4, "the page").unwrap(), b"cd");
        assert!(range(&bytes, 6.., "the page").unwrap().is_empty());
        let (from, to) = (5, 4);
        for wrong in [range(&bytes, 4..7, "the page"), range(&bytes, from..to, "the page")] {
            assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let error = range(&bytes, 7.., "page 3").unwrap_err();
        assert_eq!(error.message(), "page 3 has 6 bytes, not the range 7..");
        let error = count(-1, "the length").unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Corrupt, "the length is -1")
        );
        assert_eq!(count(7, "the length").unwrap(), 7);
    }

    #[test]
    #[should_panic(expected = "it was put there")]
    fn what_cannot_happen_is_no_empty_slice() {
        part(b"abc", 4.., "it was put there");
    }

    #[test]
    fn a_list_grows_by_an_eighth() {
        let mut list: Vec<u64> = Vec::new();
        assert_eq!(grown_capacity(&list, 80), 106);
        list.reserve_exact(grown_capacity(&list, 80));
        assert_eq!(grown_capacity(&list, 80), list.capacity());
        assert_eq!(grown_capacity(&list, usize::MAX), usize::MAX);
    }

    #[test]
    fn ends_and_saturation_are_what_their_names_say() {
        assert_eq!((first(b"abc", 2), first(b"abc", 4)), (&b"ab"[..], &b"abc"[..]));
        assert_eq!((last(b"abc", 2), last(b"abc", 4)), (&b"bc"[..], &b"abc"[..]));
        assert_eq!(first_mut(&mut b"abc".to_vec(), 9).len(), 3);
        assert_eq!((saturating_u64(-1), saturating_u32(u64::MAX)), (0, u32::MAX));
        assert_eq!((saturating_i64(u64::MAX), saturating_i32(7_u32)), (i64::MAX, 7));
        assert_eq!(saturating_ms(Duration::MAX), u64::MAX);
        assert_eq!(usize_from(u64_from(usize::MAX)), usize::MAX);
    }
}
