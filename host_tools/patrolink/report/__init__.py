"""Reports of decoded rows: live view, files for other programs, pictures and map pages."""
