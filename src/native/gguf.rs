//! Metadata of a GGUF file, read by the library's own reader.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Kind, Result};

/// Far above the width of any model.
const MAX_ROW_BYTES: usize = 1 << 20;

/// An opened header: keys, values and the list of tensors, without their data.
#[derive(Debug)]
pub struct Gguf {
    ptr: NonNull<sys::gguf_context>,
    path: PathBuf,
}

/// Bytes of all tensors of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeBytes {
    pub name: String,
    pub bytes: u64,
}

impl Gguf {
    /// Reads the header at `path` and compares what it promises with the file's size.
    ///
    /// # Errors
    /// [`Kind::File`] for a file that is missing, no GGUF, damaged or cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let bad = |text: String| Error::new(Kind::File, format!("{name}: {text}"));
        let metadata = super::file::regular(path)?;
        let mut file = File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => bad("permission denied".into()),
            _ => bad(error.to_string()),
        })?;
        let mut magic = [0; 4];
        if file.read_exact(&mut magic).is_err() || &magic != b"GGUF" {
            return Err(bad("not a GGUF file; give one made by llama.cpp's converter".into()));
        }
        super::backend()?;
        let c_path = super::c_path(path)?;
        let params = sys::gguf_init_params { no_alloc: true, ctx: std::ptr::null_mut() };
        let (ptr, reason) = super::log::listening(|| {
            // SAFETY: the path is zero-terminated, and with no_alloc and no `ctx` only the header is read.
            NonNull::new(unsafe { sys::gguf_init_from_file(c_path.as_ptr(), params) })
        });
        let gguf = ptr.map(|ptr| Self { ptr, path: path.to_owned() });
        super::callback::resume();
        let gguf = gguf.ok_or_else(|| {
            let reason = reason.map_or_else(String::new, |line| format!(" ({line})"));
            bad(format!("damaged GGUF header; fetch it again{reason}"))
        })?;
        let needed = gguf.promised_bytes();
        if metadata.len() < needed {
            return Err(bad(format!(
                "cut short: {} bytes of the {needed} its header promises; fetch it again",
                metadata.len()
            )));
        }
        Ok(gguf)
    }

    fn promised_bytes(&self) -> u64 {
        // SAFETY (whole function): the context is alive and every id is below the count.
        let data = unsafe { sys::gguf_get_data_offset(self.ptr.as_ptr()) } as u64;
        self.tensors()
            .map(|id| unsafe {
                // SAFETY: as above.
                (sys::gguf_get_tensor_offset(self.ptr.as_ptr(), id) as u64)
                    .saturating_add(sys::gguf_get_tensor_size(self.ptr.as_ptr(), id) as u64)
            })
            .max()
            .map_or(data, |end| data.saturating_add(end))
    }

    fn tensors(&self) -> std::ops::Range<i64> {
        // SAFETY: the context is alive.
        0..unsafe { sys::gguf_get_n_tensors(self.ptr.as_ptr()) }
    }

    /// Bytes of tensor data by type, the largest first.
    #[must_use]
    pub fn types(&self) -> Vec<TypeBytes> {
        let mut types: Vec<TypeBytes> = self
            .bytes_by_type()
            .into_iter()
            .map(|(kind, bytes)| TypeBytes { name: super::kv_type::type_name(kind), bytes })
            .collect();
        types.sort_by_key(|t| std::cmp::Reverse(t.bytes));
        types
    }

    pub(super) fn bytes_by_type(&self) -> BTreeMap<sys::ggml_type, u64> {
        let mut by_type: BTreeMap<sys::ggml_type, u64> = BTreeMap::new();
        for id in self.tensors() {
            // SAFETY: the context is alive and the id below the count.
            let (kind, bytes) = unsafe {
                (
                    sys::gguf_get_tensor_type(self.ptr.as_ptr(), id),
                    sys::gguf_get_tensor_size(self.ptr.as_ptr(), id),
                )
            };
            *by_type.entry(kind).or_default() += bytes as u64;
        }
        by_type
    }

    /// The values of a small tensor of one row, in F32, F16 or BF16; `None` if there is none of that name.
    ///
    /// # Errors
    /// [`Kind::File`] for another type, or if the file cannot be read.
    pub fn row(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let bad = |text: String| Error::new(Kind::File, format!("{}: {name}: {text}", self.path.display()));
        let Ok(c_name) = CString::new(name) else { return Ok(None) };
        // SAFETY: the context is alive, the name zero-terminated.
        let id = unsafe { sys::gguf_find_tensor(self.ptr.as_ptr(), c_name.as_ptr()) };
        if id < 0 {
            return Ok(None);
        }
        // SAFETY: the context is alive and the id was found in it.
        let (kind, bytes, at) = unsafe {
            (
                sys::gguf_get_tensor_type(self.ptr.as_ptr(), id),
                sys::gguf_get_tensor_size(self.ptr.as_ptr(), id),
                sys::gguf_get_data_offset(self.ptr.as_ptr())
                    + sys::gguf_get_tensor_offset(self.ptr.as_ptr(), id),
            )
        };
        if bytes > MAX_ROW_BYTES {
            return Err(bad(format!("{bytes} bytes are no single row; fetch the file again")));
        }
        let mut data = vec![0; bytes];
        File::open(&self.path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(at as u64))?;
                file.read_exact(&mut data)
            })
            .map_err(|error| bad(error.to_string()))?;
        let pairs = data.as_chunks().0.iter().copied();
        let values = match kind {
            sys::GGML_TYPE_F32 => data.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect(),
            sys::GGML_TYPE_F16 => pairs.map(|b| half::f16::from_le_bytes(b).to_f32()).collect(),
            sys::GGML_TYPE_BF16 => pairs.map(|b| half::bf16::from_le_bytes(b).to_f32()).collect(),
            other => {
                let kind = super::kv_type::type_name(other);
                return Err(bad(format!("has type {kind}; F32, F16 and BF16 can be read")));
            }
        };
        Ok(Some(values))
    }

    fn find(&self, key: &str) -> Option<i64> {
        let key = CString::new(key).ok()?;
        // SAFETY: the context is alive, the key zero-terminated.
        let id = unsafe { sys::gguf_find_key(self.ptr.as_ptr(), key.as_ptr()) };
        (id >= 0).then_some(id)
    }

    /// The key's id, if its value has one of `types`: the library aborts on any other.
    fn find_typed(&self, key: &str, types: &[sys::gguf_type]) -> Option<(i64, sys::gguf_type)> {
        let id = self.find(key)?;
        // SAFETY: the id was found in this context.
        let found = unsafe { sys::gguf_get_kv_type(self.ptr.as_ptr(), id) };
        types.contains(&found).then_some((id, found))
    }

    #[must_use]
    pub fn string(&self, key: &str) -> Option<String> {
        let (id, _) = self.find_typed(key, &[sys::GGUF_TYPE_STRING])?;
        // SAFETY: the value is a string; the library keeps it zero-terminated and alive.
        Some(unsafe { super::owned(sys::gguf_get_val_str(self.ptr.as_ptr(), id)) })
    }

    #[must_use]
    pub fn u32(&self, key: &str) -> Option<u32> {
        let (id, found) = self.find_typed(key, &[sys::GGUF_TYPE_UINT32, sys::GGUF_TYPE_INT32])?;
        // SAFETY: the value's type was checked.
        unsafe {
            match found {
                sys::GGUF_TYPE_UINT32 => Some(sys::gguf_get_val_u32(self.ptr.as_ptr(), id)),
                _ => u32::try_from(sys::gguf_get_val_i32(self.ptr.as_ptr(), id)).ok(),
            }
        }
    }

    #[must_use]
    pub fn f32(&self, key: &str) -> Option<f32> {
        let (id, _) = self.find_typed(key, &[sys::GGUF_TYPE_FLOAT32])?;
        // SAFETY: the value's type was checked.
        Some(unsafe { sys::gguf_get_val_f32(self.ptr.as_ptr(), id) })
    }

    /// An array of strings, as bytes.
    #[must_use]
    pub fn strings(&self, key: &str) -> Option<Vec<Vec<u8>>> {
        let (id, n) = self.array(key, sys::GGUF_TYPE_STRING)?;
        let string = |i| {
            // SAFETY: one of n strings, zero-terminated and alive as long as the context; copied here.
            unsafe { CStr::from_ptr(sys::gguf_get_arr_str(self.ptr.as_ptr(), id, i)) }.to_bytes().to_vec()
        };
        Some((0..n).map(string).collect())
    }

    fn array(&self, key: &str, element: sys::gguf_type) -> Option<(i64, usize)> {
        let (id, _) = self.find_typed(key, &[sys::GGUF_TYPE_ARRAY])?;
        // SAFETY: the value is an array.
        let found = unsafe { sys::gguf_get_arr_type(self.ptr.as_ptr(), id) };
        // SAFETY: as above.
        (found == element).then(|| (id, unsafe { sys::gguf_get_arr_n(self.ptr.as_ptr(), id) }))
    }

    /// An i32 or u32 array.
    #[must_use]
    pub fn integers(&self, key: &str) -> Option<Vec<i64>> {
        if let Some((id, n)) = self.array(key, sys::GGUF_TYPE_INT32) {
            // SAFETY: an array of n i32, alive as long as the context.
            let values =
                unsafe { super::copied(sys::gguf_get_arr_data(self.ptr.as_ptr(), id).cast::<i32>(), n) };
            return Some(values.into_iter().map(i64::from).collect());
        }
        let (id, n) = self.array(key, sys::GGUF_TYPE_UINT32)?;
        // SAFETY: an array of n u32, alive as long as the context.
        let values = unsafe { super::copied(sys::gguf_get_arr_data(self.ptr.as_ptr(), id).cast::<u32>(), n) };
        Some(values.into_iter().map(i64::from).collect())
    }

    /// A bool array.
    #[must_use]
    pub fn flags(&self, key: &str) -> Option<Vec<bool>> {
        let (id, n) = self.array(key, sys::GGUF_TYPE_BOOL)?;
        // SAFETY: an array of n bytes, alive as long as the context.
        let values = unsafe { super::copied(sys::gguf_get_arr_data(self.ptr.as_ptr(), id).cast::<u8>(), n) };
        Some(values.into_iter().map(|value| value != 0).collect())
    }

    /// An f32 or f64 array.
    #[must_use]
    pub fn floats(&self, key: &str) -> Option<Vec<f64>> {
        if let Some((id, n)) = self.array(key, sys::GGUF_TYPE_FLOAT32) {
            // SAFETY: an array of n f32, alive as long as the context.
            let values =
                unsafe { super::copied(sys::gguf_get_arr_data(self.ptr.as_ptr(), id).cast::<f32>(), n) };
            // The shortest decimal of the float is what its writer meant: 0.7, not 0.699999988.
            return Some(values.into_iter().map(|v| v.to_string().parse().unwrap_or(f64::from(v))).collect());
        }
        let (id, n) = self.array(key, sys::GGUF_TYPE_FLOAT64)?;
        // SAFETY: an array of n f64, alive as long as the context.
        Some(unsafe { super::copied(sys::gguf_get_arr_data(self.ptr.as_ptr(), id).cast::<f64>(), n) })
    }
}

impl Drop for Gguf {
    fn drop(&mut self) {
        // SAFETY: this is the one owner.
        unsafe { sys::gguf_free(self.ptr.as_ptr()) };
    }
}
