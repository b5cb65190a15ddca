"""C beside Python: how sources of this package become functions on the machine at hand. Knows no kernel by name."""
