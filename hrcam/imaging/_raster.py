"""PNG, JPEG, TIFF, BMP and GIF.

Pillow decodes, and refuses files that are cut off. It makes 8 bits of 16-bit colour:
those PNG files are decoded by OpenCV after Pillow has checked them, those TIFF files
by tifffile.
"""
