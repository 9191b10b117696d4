// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables of a `.tflite` file, as far as this program reads them. The crate `flatbuffers`
//! verifies a whole file before anything is read from it; this says what tables and fields there
//! are, by the numbers of TensorFlow Lite's schema.

use anyhow::{Context, Result, ensure};
use flatbuffers::{
    Follow, ForwardsUOffset, InvalidFlatbuffer, SIZE_UOFFSET, SIZE_VOFFSET, Table, VOffsetT,
    Vector, Verifiable, Verifier,
};

/// The offset in a table's index at which field `number` is found.
const fn slot(number: VOffsetT) -> VOffsetT {
    (2 + number) * SIZE_VOFFSET as VOffsetT
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident {
        $($field:ident: $number:literal => $kind:ty,)*
        $(=> $key:literal, $value:literal: $($variant:literal => $options:ty,)*)?
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<'a>(Table<'a>);

        impl<'a> Follow<'a> for $name<'a> {
            type Inner = Self;

            unsafe fn follow(bytes: &'a [u8], at: usize) -> Self {
                // SAFETY: a table is at `at`, says the caller.
                Self(unsafe { Table::new(bytes, at) })
            }
        }

        impl<'a> Verifiable for $name<'a> {
            fn run_verifier(verifier: &mut Verifier, at: usize) -> Result<(), InvalidFlatbuffer> {
                let table = verifier.visit_table(at)?;
                $(let table = table.visit_field::<$kind>(
                    stringify!($field), slot($number), false,
                )?;)*
                $(let table = table.visit_union::<u8, _>(
                    "type", slot($key), "value", slot($value), false,
                    |key, verifier, at| match key {
                        $($variant => <ForwardsUOffset<$options>>::run_verifier(verifier, at),)*
                        _ => Ok(()),
                    },
                )?;)?
                table.finish();
                Ok(())
            }
        }

        impl<'a> $name<'a> {
            $(pub fn $field(self) -> Option<<$kind as Follow<'a>>::Inner> {
                // SAFETY: tables come from `model` only, which has verified that this field is
                // of this type or absent.
                unsafe { self.0.get::<$kind>(slot($number), None) }
            })*
        }

        // SAFETY: `run_verifier` above has the same number.
        $($(unsafe impl<'a> Variant<'a> for $options {
            const KEY: u8 = $variant;
        })*)?
    )*};
}

/// Tables that an operator's options may be.
///
/// # Safety
///
/// `KEY` is the number under which the verifier takes options for this table.
pub unsafe trait Variant<'a>: Follow<'a, Inner = Self> + 'a {
    const KEY: u8;
}

type Table1<T> = ForwardsUOffset<T>;
type List<'a, T> = ForwardsUOffset<Vector<'a, T>>;

tables! {
    Model {
        operator_codes: 1 => List<'a, Table1<OperatorCode<'a>>>,
        subgraphs: 2 => List<'a, Table1<SubGraph<'a>>>,
        buffers: 4 => List<'a, Table1<Buffer<'a>>>,
    }
    OperatorCode {
        // Where the code was before there were more than 127.
        short_code: 0 => i8,
        code: 3 => i32,
    }
    SubGraph {
        tensors: 0 => List<'a, Table1<Tensor<'a>>>,
        inputs: 1 => List<'a, i32>,
        outputs: 2 => List<'a, i32>,
        operators: 3 => List<'a, Table1<Operator<'a>>>,
    }
    Tensor {
        shape: 0 => List<'a, i32>,
        kind: 1 => i8,
        buffer: 2 => u32,
        name: 3 => ForwardsUOffset<&'a str>,
        quantization: 4 => Table1<Quantization<'a>>,
    }
    Quantization {
        scales: 2 => List<'a, f32>,
        zero_points: 3 => List<'a, i64>,
        dimension: 6 => i32,
    }
    Operator {
        code: 0 => u32,
        inputs: 1 => List<'a, i32>,
        outputs: 2 => List<'a, i32>,
        options_kind: 3 => u8,
        // A union: the number of its variant is in one field, the variant in the next.
        => 3, 4:
            1 => Conv2d<'a>,
            2 => DepthwiseConv2d<'a>,
            5 => Pool2d<'a>,
            8 => FullyConnected<'a>,
            9 => Softmax<'a>,
            11 => Add<'a>,
    }
    Conv2d {
        padding: 0 => i8,
        stride_w: 1 => i32,
        stride_h: 2 => i32,
        activation: 3 => i8,
        dilation_w: 4 => i32,
        dilation_h: 5 => i32,
    }
    DepthwiseConv2d {
        padding: 0 => i8,
        stride_w: 1 => i32,
        stride_h: 2 => i32,
        activation: 4 => i8,
        dilation_w: 5 => i32,
        dilation_h: 6 => i32,
    }
    Pool2d {
        padding: 0 => i8,
        stride_w: 1 => i32,
        stride_h: 2 => i32,
        filter_w: 3 => i32,
        filter_h: 4 => i32,
        activation: 5 => i8,
    }
    FullyConnected {
        activation: 0 => i8,
        weights_format: 1 => i8,
    }
    Softmax {
        beta: 0 => f32,
    }
    Add {
        activation: 0 => i8,
    }
    Buffer {
        data: 0 => List<'a, u8>,
    }
}

impl<'a> Operator<'a> {
    /// The operator's options, if they are of this kind.
    pub fn options<T: Variant<'a>>(self) -> Option<T> {
        if self.options_kind() != Some(T::KEY) {
            return None;
        }
        // SAFETY: tables come from `model` only, which has verified that options with this
        // number are of this type.
        unsafe { self.0.get::<ForwardsUOffset<T>>(slot(4), None) }
    }
}

/// The root table of a `.tflite` file.
///
/// # Errors
///
/// The bytes are none, or any of the tables above is not sound.
pub fn model(bytes: &[u8]) -> Result<Model<'_>> {
    // Behind the offset of the root table.
    let identifier = bytes.get(SIZE_UOFFSET..2 * SIZE_UOFFSET);
    ensure!(
        identifier == Some(b"TFL3"),
        "it is not a .tflite file: it has not the identifier TFL3"
    );
    flatbuffers::root::<Model>(bytes).context("a .tflite file that is damaged")
}
