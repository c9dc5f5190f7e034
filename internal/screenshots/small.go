package main

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"maps"
	"slices"
)

// paletteSize is how many colours a picture keeps: as many as a byte can name.
const paletteSize = 256

// small makes a picture a fraction of its size: pages have few colours, apart from the edges of
// letters.
func small(shot []byte) ([]byte, error) {
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return nil, err
	}
	bounds := picture.Bounds()
	counts := map[color.RGBA]int{}
	each := func(do func(x, y int, c color.RGBA)) {
		for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
			for x := bounds.Min.X; x < bounds.Max.X; x++ {
				r, g, b, _ := picture.At(x, y).RGBA()
				do(x, y, color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 255}) //nolint:gosec // it is a byte
			}
		}
	}
	each(func(_, _ int, c color.RGBA) { counts[c]++ })
	colours := slices.SortedFunc(maps.Keys(counts), func(a, b color.RGBA) int {
		return cmp.Or(counts[b]-counts[a], cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	var palette color.Palette
	for _, c := range colours[:min(len(colours), paletteSize)] {
		palette = append(palette, c)
	}
	out, index := image.NewPaletted(bounds, palette), map[color.RGBA]uint8{}
	each(func(x, y int, c color.RGBA) {
		i, known := index[c]
		if !known {
			i = uint8(palette.Index(c)) //nolint:gosec // there are so few
			index[c] = i
		}
		out.SetColorIndex(x, y, i)
	})
	var text bytes.Buffer
	err = (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&text, out)
	return text.Bytes(), err
}
