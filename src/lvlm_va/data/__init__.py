"""Image sets: folders, manifests, DICOM, Hugging Face, and the data of the paper."""
