//! The numbers in a name: how wide they are, and how they are read and written.

/// Digits written for `%f`, as MediaMTX and the ONVIF format have them: microseconds.
pub(super) const FRACTION_DIGITS: u32 = 6;

/// Digits of `%f` that are understood: nanoseconds.
const MAX_FRACTION_DIGITS: usize = 9;

/// What `%y` counts from.
const SHORT_YEAR_BASE: i64 = 2000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Fraction,
    UnixSeconds,
    Counter,
    ShortYear,
}

impl Field {
    /// Those that are finer than a day.
    pub(super) const FINEST_FIRST: [Field; 5] =
        [Field::Fraction, Field::UnixSeconds, Field::Second, Field::Minute, Field::Hour];

    const SLOTS: usize = 9;

    /// The two ways to write a year are one number.
    #[inline]
    fn slot(self) -> usize {
        if self == Field::ShortYear { Field::Year as usize } else { self as usize }
    }

    pub(super) fn of_letter(letter: char) -> Option<Field> {
        Some(match letter {
            'Y' => Field::Year,
            'y' => Field::ShortYear,
            'm' => Field::Month,
            'd' => Field::Day,
            'H' => Field::Hour,
            'M' => Field::Minute,
            'S' => Field::Second,
            'f' => Field::Fraction,
            's' => Field::UnixSeconds,
            _ => return None,
        })
    }

    pub(super) fn placeholder(self) -> &'static str {
        match self {
            Field::Year => "%Y",
            Field::ShortYear => "%y",
            Field::Month => "%m",
            Field::Day => "%d",
            Field::Hour => "%H",
            Field::Minute => "%M",
            Field::Second => "%S",
            Field::Fraction => "%f",
            Field::UnixSeconds => "%s",
            Field::Counter => "{counter}",
        }
    }

    /// Digits of the field where their number is fixed.
    pub(super) fn width(self) -> Option<usize> {
        match self {
            Field::Year => Some(4),
            Field::ShortYear
            | Field::Month
            | Field::Day
            | Field::Hour
            | Field::Minute
            | Field::Second => Some(2),
            Field::Fraction | Field::UnixSeconds | Field::Counter => None,
        }
    }

    /// Takes the field from the front of `rest`; returns what follows it.
    pub(super) fn read<'a>(self, rest: &'a [u8], fields: &mut Fields) -> Option<&'a [u8]> {
        let signed = self == Field::UnixSeconds && rest.first() == Some(&b'-');
        let unsigned = rest.get(usize::from(signed)..)?;
        let count = self.width().unwrap_or_else(|| leading_digits(unsigned));
        let (digits, rest) = unsigned.split_at_checked(count)?;
        let value = number(digits)?;
        let value = match self {
            Field::Fraction => {
                let absent = MAX_FRACTION_DIGITS.checked_sub(count)?;
                let step_ns = 10_u32.pow(u32::try_from(absent).ok()?);
                fields.fraction_step_ns = step_ns;
                value * i64::from(step_ns)
            }
            Field::ShortYear => SHORT_YEAR_BASE + value,
            _ if signed => -value,
            _ => value,
        };
        fields.set(self, value)?;
        Some(rest)
    }

    /// Adds the field as it stands in a name; one that is absent is written as 0.
    pub(super) fn write(self, fields: &Fields, name: &mut Vec<u8>) {
        let value = fields.get(self).unwrap_or(0);
        match self {
            Field::Fraction => {
                let step_ns = 10_i64.pow(MAX_FRACTION_DIGITS as u32 - FRACTION_DIGITS);
                push_number(name, value / step_ns, FRACTION_DIGITS as usize);
            }
            Field::ShortYear => push_number(name, value.rem_euclid(100), 2),
            _ => push_number(name, value, self.width().unwrap_or(1)),
        }
    }
}

/// Of an `i64`.
const MAX_DIGITS: usize = 19;

/// With zeros in front where it has fewer digits. Names are made for every segment that the index holds: no
/// string is made for each number in them.
fn push_number(name: &mut Vec<u8>, value: i64, least_digits: usize) {
    if value < 0 {
        name.push(b'-');
    }
    let mut digits = [b'0'; MAX_DIGITS];
    let mut left = value.unsigned_abs();
    let mut unused = MAX_DIGITS;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
        unused -= 1;
        if left == 0 {
            break;
        }
    }
    name.extend_from_slice(digits.get(unused.min(MAX_DIGITS - least_digits)..).unwrap_or_default());
}

/// The numbers of one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Fields {
    /// By [`Field::slot`].
    numbers: [Option<i64>; Field::SLOTS],
    /// What one step of the last fraction digit is worth; zero where there is no fraction.
    pub fraction_step_ns: u32,
}

impl Fields {
    /// Of a fraction, nanoseconds.
    #[inline]
    pub(super) fn get(&self, field: Field) -> Option<i64> {
        self.numbers.get(field.slot()).copied().flatten()
    }

    /// A field may stand in a template twice (a date in both directory and file name); `None` where
    /// the two disagree.
    #[inline]
    pub(super) fn set(&mut self, field: Field, value: i64) -> Option<()> {
        let slot = self.numbers.get_mut(field.slot())?;
        (*slot.get_or_insert(value) == value).then_some(())
    }
}

pub(super) fn leading_digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// `None` where there is no digit, or anything else, or more than an `i64` holds.
fn number(digits: &[u8]) -> Option<i64> {
    let mut number = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    (!digits.is_empty()).then_some(number)
}
